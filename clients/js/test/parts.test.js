import assert from "node:assert/strict";
import { test } from "node:test";

import { Endpoint, explain, newSessionId } from "@trunkline/client";

import { bytesOf, fromPcm, soundOf, toPcm } from "../src/audio/pcm.js";
import { Resampler } from "../src/audio/resampler.js";
import { DEFAULT_BACKOFF, pauseMs } from "../src/backoff.js";
import { Decoder, FrameError, Opcode, encode } from "../src/node/frames.js";

test("an endpoint has both forms of a WebSocket's address", () => {
  const endpoint = new Endpoint("https://host.example/api/projects/one");
  assert.equal(
    endpoint.websocketUrl("voice", "s1", { query: { lang: "en" } }).href,
    "wss://host.example/api/projects/one/agents/voice/endpoint/protocols/invocations_ws" +
      "?api-version=v1&lang=en&agent_session_id=s1",
  );
  const { pathname, searchParams } = endpoint.websocketUrl("voice", "s1", { form: "dispatcher" });
  assert.equal(pathname, "/api/projects/agents/endpoint/protocols/invocations_ws");
  assert.deepEqual(Object.fromEntries(searchParams), {
    "api-version": "v1",
    project_name: "one",
    agent_name: "voice",
    foundry_features: "HostedAgents=V1Preview",
    agent_session_id: "s1",
  });
});

test("an address alone means the default project", () => {
  assert.equal(new Endpoint("http://127.0.0.1:8080").url, "http://127.0.0.1:8080/api/projects/default");
});

for (const [address, code] of [
  ["http://192.0.2.1/api/projects/default", "insecure_endpoint"],
  ["https://user:secret@host/api/projects/default", "invalid_endpoint"],
  ["https://host/api/projects/a/agents/b", "invalid_endpoint"],
  ["ftp://host/api/projects/default", "invalid_endpoint"],
  ["nonsense", "invalid_endpoint"],
]) {
  test(`${address} is refused as ${code}, and isn't repeated`, () => {
    assert.throws(() => new Endpoint(address), (error) => {
      assert.equal(error.code, code);
      assert.doesNotMatch(error.message, /secret/);
      return true;
    });
  });
}

test("names that can't be are refused before anything is sent", () => {
  const endpoint = new Endpoint("https://host");
  assert.throws(() => endpoint.websocketUrl("../x", "s"), { code: "invalid_request" });
  assert.throws(() => endpoint.websocketUrl("x", "a b"), { code: "invalid_request" });
});

test("new session ids have 128 random bits", () => {
  assert.match(newSessionId(), /^[0-9a-f]{32}$/);
  assert.notEqual(newSessionId(), newSessionId());
});

test("close codes have words", () => {
  assert.equal(explain(1009), "a frame was over the frame limit");
  assert.equal(explain(4001), "the application's own code");
  assert.equal(explain(2999), "a code without a meaning known here");
});

test("waits double up to a bound, and all of each is chance", () => {
  const waits = { ...DEFAULT_BACKOFF, firstMs: 100, maxMs: 1000 };
  assert.deepEqual([0, 1, 2, 3, 4, 99].map((n) => pauseMs(waits, n, 1)), [100, 200, 400, 800, 1000, 1000]);
  assert.equal(pauseMs(waits, 3, 0.5), 400);
  assert.equal(pauseMs(waits, 3, 0), 0);
});

/**
 * @param {number} first
 * @param {Buffer} payload
 */
function serverFrame(first, payload) {
  const { length } = payload;
  let head;
  if (length < 126) head = Buffer.from([first, length]);
  else if (length < 65536) {
    head = Buffer.from([first, 126, 0, 0]);
    head.writeUInt16BE(length, 2);
  } else {
    head = Buffer.alloc(10);
    head[0] = first;
    head[1] = 127;
    head.writeBigUInt64BE(BigInt(length), 2);
  }
  return Buffer.concat([head, payload]);
}

test("frames split anywhere make the same messages", () => {
  const wire = Buffer.concat([
    serverFrame(0x01, Buffer.from("hel")),
    serverFrame(0x89, Buffer.from("ping")),
    serverFrame(0x80, Buffer.from("lo")),
    serverFrame(0x82, Buffer.alloc(300, 7)),
    serverFrame(0x82, Buffer.alloc(70_000, 8)),
    serverFrame(0x81, Buffer.alloc(0)),
  ]);
  for (const size of [1, 2, 3, 7, 64, 1000, wire.length]) {
    const decoder = new Decoder(100_000);
    const got = [];
    for (let at = 0; at < wire.length; at += size) {
      got.push(...decoder.feed(wire.subarray(at, at + size)));
    }
    assert.deepEqual(
      got.map(({ opcode, payload }) => [opcode, payload.length]),
      [[Opcode.PING, 4], [Opcode.TEXT, 5], [Opcode.BINARY, 300], [Opcode.BINARY, 70_000], [Opcode.TEXT, 0]],
    );
    assert.equal(got[1].payload.toString(), "hello");
  }
});

for (const [what, bytes, code] of [
  ["a masked frame", [0x81, 0x80, 0, 0, 0, 0], 1002],
  ["a reserved bit", [0xc1, 0], 1002],
  ["an unknown opcode", [0x83, 0], 1002],
  ["a split ping", [0x09, 0], 1002],
  ["a long ping", [0x89, 126, 0, 200, ...Array(200).fill(0)], 1002],
  ["a continuation of nothing", [0x80, 0], 1002],
  ["text in the middle of text", [0x01, 0, 0x01, 0], 1002],
  ["a message that is too long", [0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0], 1009],
]) {
  test(`${what} is an error`, () => {
    const decoder = new Decoder(1000);
    assert.throws(
      () => [...decoder.feed(Buffer.from(bytes))],
      (error) => error instanceof FrameError && error.closeCode === code,
    );
  });
}

test("what is sent is masked", () => {
  const frame = encode(Opcode.TEXT, Buffer.from("abc"), Buffer.from([1, 2, 3, 4]));
  assert.deepEqual([...frame], [0x81, 0x83, 1, 2, 3, 4, 0x61 ^ 1, 0x62 ^ 2, 0x63 ^ 3]);
  assert.equal(encode(2, new Uint8Array(126), Buffer.alloc(4)).length, 8 + 126);
  assert.equal(encode(2, new Uint8Array(65_536), Buffer.alloc(4)).length, 14 + 65_536);
});

/**
 * @param {number} from
 * @param {number} to
 * @param {number} hz
 * @param {number} block
 */
function resampledTone(from, to, hz, block) {
  const resampler = new Resampler(from, to);
  const out = [];
  for (let at = 0; at < from; at += block) {
    const size = Math.min(block, from - at);
    out.push(
      ...resampler.process(
        Float32Array.from({ length: size }, (_, i) => 0.5 * Math.sin((2 * Math.PI * hz * (at + i)) / from)),
      ),
    );
  }
  return out;
}

/**
 * The part of a signal that is a tone, and the rest, in dB.
 * @param {number[]} signal
 * @param {number} rate
 * @param {number} hz
 */
function toneIn(signal, rate, hz) {
  const part = signal.slice(1000, signal.length - 1000);
  let s = 0;
  let c = 0;
  part.forEach((value, i) => {
    s += (2 * value * Math.sin((2 * Math.PI * hz * i) / rate)) / part.length;
    c += (2 * value * Math.cos((2 * Math.PI * hz * i) / rate)) / part.length;
  });
  const rest = part.reduce((sum, value, i) => {
    const phase = (2 * Math.PI * hz * i) / rate;
    return sum + (value - s * Math.sin(phase) - c * Math.cos(phase)) ** 2;
  }, 0);
  const amplitude = Math.hypot(s, c);
  return { amplitude, snr: 10 * Math.log10(((amplitude ** 2 / 2) * part.length) / rest) };
}

for (const [from, to] of [[48_000, 24_000], [44_100, 24_000], [24_000, 44_100], [16_000, 48_000], [24_000, 24_000]]) {
  test(`a tone resampled from ${from} to ${to} Hz is the same tone`, () => {
    const { amplitude, snr } = toneIn(resampledTone(from, to, 1000, 128), to, 1000);
    assert(Math.abs(amplitude - 0.5) < 0.002, `amplitude ${amplitude}`);
    assert(snr > 50, `${snr} dB`);
  });
}

test("blocks of any length make the same samples", () => {
  const whole = resampledTone(44_100, 24_000, 1000, 44_100);
  for (const block of [1, 127, 128, 1000]) {
    const parts = resampledTone(44_100, 24_000, 1000, block);
    assert.equal(parts.length, whole.length);
    const off = Math.max(...parts.map((value, i) => Math.abs(value - whole[i])));
    assert(off < 1e-5, `off by ${off}`);
  }
});

test("what the lower rate can't have is filtered out", () => {
  const out = resampledTone(48_000, 24_000, 16_000, 128).slice(1000);
  const rms = Math.sqrt(out.reduce((sum, value) => sum + value * value, 0) / out.length);
  assert(rms < 0.5 * 10 ** (-60 / 20), `${rms}`);
});

test("PCM is clipped, and comes back", () => {
  const pcm = toPcm(Float32Array.of(0, 0.5, -0.5, 2, -2));
  assert.deepEqual([...pcm], [0, 16384, -16384, 32767, -32768]);
  assert.deepEqual([...fromPcm(bytesOf(pcm)).slice(0, 3)], [0, 0.5, -0.5]);
});

test("sound with and without the header of rate and channels", () => {
  const message = new Uint8Array(12);
  new DataView(message.buffer).setUint32(0, 24_000, true);
  new DataView(message.buffer).setUint32(4, 2, true);
  assert.deepEqual(soundOf(message, 16_000), { rate: 24_000, channels: 2, pcm: message.subarray(8) });
  const plain = new Uint8Array(320).fill(9);
  assert.deepEqual(soundOf(plain, 16_000), { rate: 16_000, channels: 1, pcm: plain });
});
