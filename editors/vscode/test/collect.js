// All specs of the repository as one file, for one snapshot: a .snap file would otherwise stand beside each of them.
"use strict";

const fs = require("node:fs");
const path = require("node:path");

const specs = path.join(__dirname, "..", "..", "..", "specs");
const texts = fs
  .readdirSync(specs)
  .filter((name) => name.endsWith(".abl"))
  .sort()
  .map((name) => fs.readFileSync(path.join(specs, name), "utf8"));
fs.writeFileSync(path.join(__dirname, "snapshot", "specs.abl"), texts.join("\n"));
