import assert from "node:assert/strict";
import { test } from "node:test";

import { ClosedError, RefusedError, UnreachableError, connect } from "@trunkline/client";

import { control, endpoint, token } from "./platform.js";

const base = { endpoint, token, agent: "probe" };

/** @param {import("@trunkline/client").Conversation} call */
async function next(call) {
  const { value } = await call[Symbol.asyncIterator]().next();
  return value;
}

for (const form of /** @type {const} */ (["agent", "dispatcher"])) {
  test(`text and binary go both ways by the ${form} form`, async () => {
    const call = await connect({ ...base, agent: "echo", form });
    const bytes = crypto.getRandomValues(new Uint8Array(60_000));
    await call.send("grüß dich 👋");
    await call.send(bytes);
    await call.send(new Uint8Array([1, 2, 3]).buffer);
    await call.send("");
    const got = [];
    for await (const message of call) {
      got.push(message);
      if (got.length === 4) call.close();
    }
    assert.deepEqual(got, ["grüß dich 👋", bytes, new Uint8Array([1, 2, 3]), ""]);
    assert.deepEqual(await call.closed, {
      code: 1000,
      reason: "",
      words: "the conversation ended normally",
    });
  });
}

test("a message over 64 KiB arrives whole", async () => {
  const call = await connect({ ...base, agent: "echo" });
  const bytes = new Uint8Array(400_000).map((_, i) => i % 251);
  await call.send(bytes);
  assert.deepEqual(await next(call), bytes);
  call.close();
  await call.closed;
});

test("the same session id comes back to the same process", async () => {
  const first = await connect(base);
  await first.send("facts");
  const facts = JSON.parse(await next(first));
  first.close();
  await first.closed;
  const second = await connect({ ...base, sessionId: first.sessionId });
  await second.send("facts");
  assert.equal(JSON.parse(await next(second)).pid, facts.pid);
  assert.equal(second.sessionId, first.sessionId);
  second.close();
});

test("a stopped session is come back to, and what was remembered is there", async () => {
  const seen = [];
  const call = await connect({
    ...base,
    backoff: { firstMs: 20, maxMs: 200 },
    on: {
      open: () => seen.push("open"),
      lost: ({ code, words }) => seen.push(`lost ${code} ${words.split(" (")[0]}`),
      closed: ({ code }) => seen.push(`closed ${code}`),
    },
  });
  const { sessionId } = call;
  await call.send("remember the milk");
  assert.equal(await next(call), '"remembered"');
  const waiting = next(call);
  await control("POST", `/agents/probe/endpoint/sessions/${sessionId}:stop`);
  while (call.connections < 2) await new Promise((resolve) => setTimeout(resolve, 10));
  await call.send("recall");
  assert.equal(await waiting, '"the milk"');
  assert.equal(call.sessionId, sessionId);
  call.close();
  await call.closed;
  assert.deepEqual(seen, ["open", "lost 1001 the platform is going away", "open", "closed 1000"]);
});

test("an agent that fails ends the conversation, and says so", async () => {
  const call = await connect(base);
  await call.send("raise oh dear");
  await assert.rejects(
    async () => {
      for await (const message of call) assert.fail(`nothing was to come but ${message}`);
    },
    (error) => error instanceof ClosedError && /^closed with 1011: the agent failed/.test(error.message),
  );
  await assert.rejects(call.send("more"), ClosedError);
  assert.equal(call.trySend("more"), false);
});

test("a refusal says what was wrong, in the platform's words", async () => {
  await assert.rejects(connect({ ...base, token: "no.such.token" }), (error) => {
    assert(error instanceof RefusedError);
    assert.equal(error.status, 401);
    assert.equal(error.code, "unauthenticated");
    assert.match(error.message, /token/);
    assert.match(error.requestId ?? "", /./);
    return true;
  });
  await assert.rejects(connect({ ...base, agent: "nobody" }), { code: "agent_not_found", status: 404 });
});

test("nobody there is said as that", async () => {
  const nobody = { ...base, endpoint: "http://127.0.0.1:1/api/projects/default" };
  await assert.rejects(connect(nobody), UnreachableError);
});

test("a token function is asked for every connection", async () => {
  let asked = 0;
  const options = {
    ...base,
    token: async () => {
      asked += 1;
      return token;
    },
  };
  const call = await connect(options);
  assert.equal(asked, 1);
  call.close();
});

test("an abort signal ends the conversation, also while it is being opened", async () => {
  const stopping = new AbortController();
  const call = await connect({ ...base, signal: stopping.signal });
  stopping.abort();
  assert.equal((await call.closed).code, 1000);
  const opening = connect({ ...base, signal: AbortSignal.abort() });
  await assert.rejects(opening, ClosedError);
});

test("what nobody takes is bounded", async () => {
  const call = await connect({ ...base, agent: "echo", maxWaitingBytes: 1000 });
  for (let i = 0; i < 20 && call.isOpen; i += 1) await call.send("x".repeat(100));
  assert.equal((await call.closed).code, 4000);
});

test("send waits while too much waits to be sent, and trySend doesn't", async () => {
  const call = await connect({ ...base, agent: "echo", maxBufferedBytes: 0, on: { message() {} } });
  const large = new Uint8Array(900_000);
  let sent = 0;
  // What the operating system takes at once isn't waiting.
  while (sent < 100 && call.trySend(large)) sent += 1;
  assert(sent > 0 && sent < 100, `${sent} were sent`);
  assert.equal(call.trySend("x"), false);
  await call.send("x");
  call.close();
});

test("it takes a token or a ticket source, and not both", async () => {
  await assert.rejects(connect({ ...base, ticket: () => "" }), { code: "invalid_request" });
  await assert.rejects(connect({ endpoint, agent: "echo" }), { code: "invalid_request" });
});
