// The extension with an editor and a client that only note what they are told.
"use strict";

const assert = require("node:assert");
const fs = require("node:fs");
const Module = require("node:module");
const os = require("node:os");
const path = require("node:path");
const { afterEach, beforeEach, test } = require("node:test");

const { findCommand } = require("../src/command");

const EXTENSION = require.resolve("../src/extension");
const load = Module._load;
let folder;
let editor;
let told;
let settings;

class Client {
  constructor(id, name, server, options) {
    Object.assign(this, { server, options, state: "new" });
    told.clients.push(this);
  }
  async start() {
    if (told.broken) throw new Error("no server");
    this.state = "running";
  }
  needsStop() {
    return this.state === "running";
  }
  async dispose() {
    assert.strictEqual(this.state, "running");
    this.state = "stopped";
  }
}

function fakeEditor() {
  return {
    window: {
      createOutputChannel: () => ({ error: (error) => told.errors.push(error.message), dispose() {} }),
      showWarningMessage: async (message, choice) => (told.warnings.push(message), choice),
    },
    commands: {
      registerCommand: (name, action) => (told.commands.set(name, action), { dispose() {} }),
      executeCommand: async (...words) => told.executed.push(words),
    },
    workspace: {
      workspaceFolders: [{ uri: { scheme: "file", fsPath: folder } }],
      getConfiguration: () => ({ get: (key, usual) => settings[key] ?? usual }),
      onDidChangeConfiguration: (listener) => ((told.changed = listener), { dispose() {} }),
    },
  };
}

function program(...parts) {
  const file = path.join(folder, ...parts) + (process.platform === "win32" ? ".exe" : "");
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, "", { mode: 0o755 });
  return file;
}

function activated() {
  delete require.cache[EXTENSION];
  const extension = require(EXTENSION);
  extension.activate({ subscriptions: [] });
  return extension;
}

const settled = () => new Promise((resolve) => setTimeout(resolve, 20));

beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), "ablc-"));
  told = { clients: [], commands: new Map(), errors: [], executed: [], warnings: [], broken: false };
  settings = { path: program("bin", "ablc") };
  editor = fakeEditor();
  const fakes = { vscode: editor, "vscode-languageclient/node": { LanguageClient: Client } };
  Module._load = (name, ...rest) => fakes[name] ?? load(name, ...rest);
});

afterEach(() => {
  Module._load = load;
  fs.rmSync(folder, { recursive: true });
});

test("it starts the language server over stdio", async () => {
  activated();
  await settled();
  const [client] = told.clients;
  assert.deepStrictEqual(client.server, { command: settings.path, args: ["lsp"] });
  assert.ok(client.options.documentSelector.every((selector) => selector.language === "ablc"));
  assert.strictEqual(client.state, "running");
});

test("its command and another path start it again", async () => {
  activated();
  await told.commands.get("ablc.restartServer")();
  settings.path = program("other", "ablc");
  told.changed({ affectsConfiguration: (key) => key === "editor.fontSize" });
  told.changed({ affectsConfiguration: (key) => key === "ablc.path" });
  await settled();
  assert.deepStrictEqual(told.clients.map((client) => client.state), ["stopped", "stopped", "running"]);
  assert.strictEqual(told.clients[2].server.command, settings.path);
});

test("it stops with the editor", async () => {
  await activated().deactivate();
  assert.deepStrictEqual(told.clients.map((client) => client.state), ["stopped"]);
});

test("a server that doesn't start can be started again", async () => {
  told.broken = true;
  activated();
  await settled();
  assert.deepStrictEqual(told.errors, ["no server"]);
  told.broken = false;
  await told.commands.get("ablc.restartServer")();
  assert.strictEqual(told.clients[1].state, "running");
});

test("a missing command is told, with a way to its setting", async () => {
  settings.path = "no-such-command";
  activated();
  await settled();
  assert.match(told.warnings[0], /no-such-command.*ablc\.path/);
  assert.deepStrictEqual(told.executed, [["workbench.action.openSettings", "ablc.path"]]);
  assert.deepStrictEqual(told.clients, []);
});

test("a command is found by name, by path, and in the workspace", () => {
  const file = program("tools", "ablc");
  const environment = { PATH: ["relative", path.join(folder, "bin", "none"), path.dirname(file)].join(path.delimiter) };
  assert.strictEqual(findCommand("ablc", undefined, { ...process.env, ...environment }), file);
  assert.strictEqual(findCommand(file, undefined), file);
  assert.strictEqual(findCommand("${workspaceFolder}/tools/ablc", folder), file);
  assert.strictEqual(findCommand("./tools/ablc", folder), file);
});

test("what isn't a program is not a command", () => {
  const file = path.join(folder, "notes.txt");
  fs.writeFileSync(file, "", { mode: 0o644 });
  assert.strictEqual(findCommand(file, folder), undefined);
  assert.strictEqual(findCommand(folder, folder), undefined);
  assert.strictEqual(findCommand("", folder, { PATH: folder }), undefined);
  assert.strictEqual(findCommand("./tools/ablc", undefined), undefined);
});

test("the manifest has what the extension uses", () => {
  const manifest = require("../package.json");
  activated();
  assert.deepStrictEqual(manifest.contributes.commands.map(({ command }) => command), [...told.commands.keys()]);
  assert.strictEqual(manifest.contributes.configuration.properties["ablc.path"].default, "ablc");
});
