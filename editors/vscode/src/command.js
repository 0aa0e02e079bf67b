// Where the `ablc` command is that a setting names. Always an absolute path: a bare name that Windows is left to
// look up is taken from the open folder first, and so would run a program that came with a repository.
"use strict";

const fs = require("node:fs");
const path = require("node:path");

/** The absolute path of the command, or undefined where there is none. `folder` is the workspace's first, if any. */
function findCommand(setting, folder, environment = process.env) {
  const name = setting.trim().replaceAll("${workspaceFolder}", folder ?? "");
  if (/[\\/]/.test(name)) {
    return path.isAbsolute(name) || folder ? executable(path.resolve(folder ?? "", name), environment) : undefined;
  }
  const folders = name ? (environment.PATH ?? environment.Path ?? "").split(path.delimiter) : [];
  return first(folders.filter(path.isAbsolute), (place) => executable(path.join(place, name), environment));
}

function executable(file, environment) {
  const endings = process.platform === "win32" ? ["", ...(environment.PATHEXT ?? ".EXE").split(";")] : [""];
  return first(endings.map((ending) => file + ending), (found) => (mayRun(found) ? found : undefined));
}

function mayRun(file) {
  try {
    fs.accessSync(file, fs.constants.X_OK);
    return fs.statSync(file).isFile();
  } catch {
    return false;
  }
}

function first(items, attempt) {
  for (const item of items) {
    const found = attempt(item);
    if (found !== undefined) return found;
  }
  return undefined;
}

module.exports = { findCommand };
