// The start of every page.
import { setUpSections, setUpTables } from "./tables.js";

setUpTables();
setUpSections();
