// The start of every page that has single answers.
import { setUpReadouts } from "./readout.js";
import { setUpSections, setUpTables } from "./tables.js";
import { setUpViewer } from "./viewer.js";

setUpTables();
setUpSections();
setUpReadouts();
setUpViewer();
