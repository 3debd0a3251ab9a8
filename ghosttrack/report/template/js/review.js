// The start of a page of tables.
import { setUpSections, setUpTables } from "./tables.js";

setUpTables();
setUpSections();
