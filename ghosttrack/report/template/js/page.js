// The start of every page that has single answers.
import { setUpSections, setUpTables } from "./tables.js";
import { setUpViewer } from "./viewer.js";

setUpTables();
setUpSections();
setUpViewer();
