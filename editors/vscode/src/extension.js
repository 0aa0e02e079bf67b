// Starts `ablc lsp` and starts it again when asked to or when its path changes. All else is the server's.
"use strict";

const vscode = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

const { findCommand } = require("./command");

let output;
let client;
let last = Promise.resolve(); // starts and stops follow each other: a client that is starting can't be stopped

function activate(context) {
  output = vscode.window.createOutputChannel("ablc", { log: true });
  context.subscriptions.push(
    output,
    vscode.commands.registerCommand("ablc.restartServer", restart),
    vscode.workspace.onDidChangeConfiguration((change) => {
      if (change.affectsConfiguration("ablc.path")) restart();
    }),
  );
  restart(); // not awaited: colours and commands are there whatever becomes of the server
}

function deactivate() {
  return inTurn(stop);
}

function restart() {
  return inTurn(async () => {
    await stop();
    await start();
  });
}

function inTurn(step) {
  last = last.then(step).catch((error) => output.error(error));
  return last;
}

async function start() {
  const setting = vscode.workspace.getConfiguration("ablc").get("path", "ablc");
  const folders = vscode.workspace.workspaceFolders ?? [];
  const command = findCommand(setting, folders.find((folder) => folder.uri.scheme === "file")?.uri.fsPath);
  if (command === undefined) {
    sayMissing(setting); // not awaited: the message may stay for as long as its reader likes
    return;
  }
  client = new LanguageClient("ablc", "ablc", { command, args: ["lsp"] }, {
    documentSelector: [
      { scheme: "file", language: "ablc" },
      { scheme: "untitled", language: "ablc" },
    ],
    outputChannel: output,
  });
  await client.start(); // tells by itself why it couldn't
}

async function stop() {
  const running = client;
  client = undefined;
  if (!running?.needsStop()) return;
  await running.start().catch(() => {}); // a start under way is waited for: only what runs can be stopped
  await running.dispose();
}

async function sayMissing(setting) {
  const open = "Open the setting";
  const message = `There is no command \`${setting}\`, so only colours work. Install it (pip install 'ablc[lsp]'), or say in ablc.path where it is.`;
  if ((await vscode.window.showWarningMessage(message, open)) === open) {
    await vscode.commands.executeCommand("workbench.action.openSettings", "ablc.path");
  }
}

module.exports = { activate, deactivate };
