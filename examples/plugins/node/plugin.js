// An Elemta plugin in JavaScript: refuses mail in which one of its words is found.
//
//     npm install
//     node plugin.js unix:/run/word-filter.sock /path/to/elemta_plugin_v1.proto
//
// elemta.toml:
//
//     [[plugins.plugin]]
//     name = "word-filter"
//     address = "unix:/run/word-filter.sock"
//     config = { words = ["lottery"] }

"use strict";

const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const PROTOCOL = 1;
const AT_ONCE = 4; // pieces of a message on their way

const [address, file] = process.argv.slice(2);
const definition = loader.loadSync(file, { keepCase: true, longs: String, defaults: true });
const { PluginHost } = grpc.loadPackageDefinition(definition).elemta.plugin.v1;

function describe(_call, reply) {
  reply(null, {
    protocol: PROTOCOL,
    name: "word-filter",
    version: "1.0.0",
    description: "Refuses mail with certain words",
    license: "MIT",
    hooks: ["on_mail_from", "message_filtered"],
  });
}

// One session for each worker of the server, with all that it knows.
function session(stream) {
  let words = [];
  const reading = new Map(); // id of a call: what it has read so far

  const answer = (id, said = {}) => stream.write({ answer: { id, ...said } });
  const more = (id) => stream.write({ read: { id, reading: 1, pieces: AT_ONCE } });

  function hello(said) {
    const config = JSON.parse(said.config || "{}");
    words = (config.words || []).map((word) => Buffer.from(word));
    const error = words.length ? "" : "words: at least one is needed";
    stream.write({ ready: { error } });
  }

  function call(asked) {
    if (asked.hook === "on_mail_from") {
      const left = { greeted: asked.session.helo };
      return answer(asked.id, { metadata: left });
    }
    reading.set(asked.id, { found: "", tail: Buffer.alloc(0), pieces: 0 });
    return more(asked.id);
  }

  function chunk(piece) {
    const state = reading.get(piece.id);
    if (!state) return;
    if (piece.last) {
      reading.delete(piece.id);
      if (piece.error) return answer(piece.id, { error: piece.error });
      return answer(piece.id, verdict(state.found));
    }
    // a word may lie across two pieces: the end of one is looked at with the next
    const data = Buffer.concat([state.tail, piece.data]);
    const hit = words.find((word) => data.includes(word));
    if (hit) state.found = hit.toString();
    state.tail = data.subarray(-100);
    if (++state.pieces % AT_ONCE === 0) more(piece.id);
  }

  stream.on("data", (message) => {
    if (message.hello) hello(message.hello);
    else if (message.call) call(message.call);
    else if (message.chunk) chunk(message.chunk);
    else if (message.cancel) {
      // what has been answered already is not answered again
      if (reading.delete(message.cancel.id)) answer(message.cancel.id, { error: "cancelled" });
    } else if (message.order) stream.write({ done: { id: message.order.id } });
  });
  stream.on("end", () => stream.end());
  stream.on("error", () => {}); // the server has gone: it will come back
}

function verdict(word) {
  if (!word) return {};
  return { action: "REJECT", code: 554, enhanced: "5.7.1", text: "Not here", note: `word: ${word}` };
}

const server = new grpc.Server();
server.addService(PluginHost.service, { Describe: describe, Session: session });
server.bindAsync(address, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
  console.log(`listening at ${address}`);
});
