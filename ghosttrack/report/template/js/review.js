// The start of a page of tables.
import { setUpComparison } from "./compare.js";
import { setUpReadouts } from "./readout.js";
import { setUpSections, setUpTables } from "./tables.js";

setUpTables();
setUpSections();
setUpReadouts();
setUpComparison();
