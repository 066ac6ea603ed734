// SPDX-License-Identifier: BSD-3-Clause
// ONNX Runtime (npm onnxruntime-node, one thread): microseconds a batch for a model, and for an Identity model.
//
//   node onnxruntime.js MODEL IDENTITY.onnx [--batch 1,8,32,128] [--seconds S] [--input ROWS.npy]...
//
// Prints {"batch", "us", "identity_us", "net_us", "rows_s", "version"} a line. The Identity model copies one float32
// tensor of the model's first output's size: its time is what the binding, the call and the answer's way into
// JavaScript cost without any model. Both are measured in turns; net_us is the median of the differences.
"use strict";
const fs = require("fs");
const os = require("os");
const path = require("path");

const ROUNDS = 9;
const DTYPES = { "<f4": ["float32", Float32Array], "<i8": ["int64", BigInt64Array] };

// A .npy file's rows; a batch takes the first ones, from the start again if there are too few.
function readNpy(file) {
	const bytes = fs.readFileSync(file);
	const size = bytes[6] === 1 ? bytes.readUInt16LE(8) : bytes.readUInt32LE(8);
	const start = (bytes[6] === 1 ? 10 : 12) + size;
	const header = bytes.toString("latin1", start - size, start);
	const descr = /'descr': '([^']*)'/.exec(header)[1];
	const shape = /'shape': \(([^)]*)\)/.exec(header)[1].split(",").filter((w) => w.trim()).map(Number);
	const [type, Values] = DTYPES[descr];
	return { type, shape, values: new Values(bytes.buffer.slice(bytes.byteOffset + start, bytes.byteOffset + bytes.length)) };
}

// The rows `millrace-model bench` makes for itself: [-1, 1) by the same congruential sequence.
function madeRows(metadata, rows) {
	if (metadata.type !== "float32")
		throw new Error(`input '${metadata.name}' is ${metadata.type}: its rows must be given by --input`);
	const shape = [rows, ...metadata.shape.slice(1)];
	const values = new Float32Array(shape.reduce((a, b) => a * b));
	let state = 1;
	for (let i = 0; i < values.length; i++) {
		state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
		values[i] = (state >>> 8) / (1 << 23) - 1;
	}
	return { type: "float32", shape, values };
}

function tensor(ort, data, rows) {
	const width = data.shape.slice(1).reduce((a, b) => a * b, 1);
	const values = new data.values.constructor(rows * width);
	for (let i = 0; i < values.length; i++)
		values[i] = data.values[i % data.values.length];
	return new ort.Tensor(data.type, values, [rows, ...data.shape.slice(1)]);
}

async function microseconds(session, feeds, times) {
	const start = process.hrtime.bigint();
	for (let i = 0; i < times; i++)
		await session.run(feeds);
	return Number(process.hrtime.bigint() - start) / 1e3 / times;
}

// Doubling finds how many calls fill `seconds`.
async function calls(session, feeds, seconds) {
	let times = 1;
	while ((await microseconds(session, feeds, times)) * times < seconds * 1e6)
		times *= 2;
	return times;
}

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

async function measure(ort, model, identity, inputs, rows, seconds) {
	const feeds = {};
	model.inputNames.forEach((name, i) => {
		feeds[name] = tensor(ort, inputs[i] || madeRows(model.inputMetadata[i], rows), rows);
	});
	const answer = (await model.run(feeds))[model.outputNames[0]];
	const width = answer.dims.reduce((a, b) => a * b, 1) / rows;
	const nothing = { x: new ort.Tensor("float32", new Float32Array(rows * width), [rows, width]) };
	const times = await calls(model, feeds, seconds / ROUNDS / 2);
	const idle = await calls(identity, nothing, seconds / ROUNDS / 2);
	const us = [], identityUs = [], net = [];
	for (let i = 0; i < ROUNDS; i++) {
		us.push(await microseconds(model, feeds, times));
		identityUs.push(await microseconds(identity, nothing, idle));
		net.push(us[i] - identityUs[i]);
	}
	const left = median(net);
	return { batch: rows, us: median(us), identity_us: median(identityUs), net_us: left,
		rows_s: left > 0 ? (rows / left) * 1e6 : null };
}

async function main() {
	const options = { "--batch": ["1,8,32,128"], "--seconds": ["0.5"], "--input": [] }, files = [];
	for (let i = 2; i < process.argv.length; i++)
		(options[process.argv[i]] ? options[process.argv[i++]] : files).push(process.argv[i]);
	const home = path.join(process.env.MILLRACE_ORT || path.join(os.homedir(), ".cache", "millrace", "ort"),
		"node_modules", "onnxruntime-node");
	const ort = require(home);
	const version = require(path.join(home, "package.json")).version;
	const one = { intraOpNumThreads: 1, interOpNumThreads: 1, executionMode: "sequential", graphOptimizationLevel: "all" };
	const model = await ort.InferenceSession.create(files[0], one);
	const identity = await ort.InferenceSession.create(files[1], one);
	const inputs = options["--input"].map(readNpy), seconds = Number(options["--seconds"].pop());
	for (const rows of options["--batch"].pop().split(",").map(Number)) {
		const row = await measure(ort, model, identity, inputs, rows, seconds);
		console.log(JSON.stringify({ ...row, version }));
	}
}

main().catch((problem) => {
	console.error(`onnxruntime: ${problem.message.split("\n")[0]}`);
	process.exit(1);
});
