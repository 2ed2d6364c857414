// Run by `cargo test -p windlass-server` (src/pages/log.rs), or by hand: `node --test assets/log.test.js`.
"use strict";
const test = require("node:test");
const assert = require("node:assert/strict");
const { Assembler, byteLength, afterBytes, paint, readHash, encodeStep, hashOf, folded, earlierLines, MOST_LETTERS } = require("./log.js");

// The log `text` as chunks of bytes [start, next); a character is never cut, as the server promises.
const chunk = (text, start, next, attempt = 1) => ({
  start, next, attempt, at: 1, text: Buffer.from(text).subarray(start, next).toString(),
});
const shape = (line) => `${line.number}@${line.offset} ${line.text}`;
const bounds = (text) => {
  const all = [0];
  for (const c of text) all.push(all.at(-1) + Buffer.byteLength(c));
  return all;
};

test("lines are the same wherever chunks are cut and wherever a connection goes on", () => {
  const text = "one\n\ntwö €\r\n😀 three\nunfinished";
  const want = ["1@0 one", "2@4 ", "3@5 twö €", "4@15 😀 three", "5@26 unfinished"];
  const at = bounds(text);
  for (const first of at) for (const second of at) {
    if (second < first) continue;
    // The last two overlap: the second connection begins before the first one ended.
    for (const again of at.filter((b) => b <= second)) {
      const assembler = new Assembler();
      const lines = [[0, first], [first, second], [again, at.at(-1)]].flatMap(([from, to]) => assembler.push(chunk(text, from, to)));
      lines.push(...assembler.end());
      assert.deepEqual(lines.map(shape), want, `${first} ${second} ${again}`);
    }
  }
});

test("a chunk that was had before changes nothing, one that comes too late is noticed", () => {
  const text = "a\nb\nc\n";
  const assembler = new Assembler();
  assert.equal(assembler.push(chunk(text, 0, 4)).length, 2);
  assert.deepEqual(assembler.push(chunk(text, 0, 4)), []);
  assert.deepEqual(assembler.push(chunk(text, 2, 3)), []);
  assert.equal(assembler.misses(chunk(text, 4, 6)), false);
  assert.equal(assembler.misses(chunk(text, 5, 6)), true);
  assert.deepEqual(assembler.push(chunk(text, 2, 6)).map(shape), ["3@4 c"]);
});

test("bytes that are no text count as they are", () => {
  // Two bytes that are none, each one mark.
  const lossy = { start: 0, next: 7, attempt: 1, at: 1, text: "\ufffd\ufffd\nx\ny\n" };
  const assembler = new Assembler();
  assert.deepEqual(assembler.push(lossy).map(shape), ["1@0 \ufffd\ufffd", "2@3 x", "3@5 y"]);
  const later = new Assembler({ offset: 2 });
  assert.deepEqual(later.push(lossy).map(shape), ["1@2 ", "2@3 x", "3@5 y"]);
  assert.equal(byteLength("aé€😀\ufffd"), 1 + 2 + 3 + 4 + 3);
  assert.equal(afterBytes("aé€😀z", 6), "😀z");
});

test("a stream that begins within a line leaves it out", () => {
  const text = "first\nsecond\nthird\n";
  const assembler = new Assembler({ offset: 3, within: true });
  assert.deepEqual(assembler.push(chunk(text, 3, 8)).map(shape), []);
  assert.deepEqual(assembler.push(chunk(text, 8, text.length)).map(shape), ["2@6 second", "3@13 third"]);
});

test("a huge line is cut, and takes no more memory than is shown", () => {
  const assembler = new Assembler();
  const piece = "x".repeat(64 * 1024);
  let start = 0;
  for (let i = 0; i < 160; i++, start += piece.length) {
    assert.deepEqual(assembler.push({ start, next: start + piece.length, attempt: 1, at: 1, text: piece }), []);
    assert.ok(assembler.open.text.length <= MOST_LETTERS);
  }
  const [line, next] = assembler.push({ start, next: start + 5, attempt: 1, at: 1, text: "\nend\n" });
  assert.equal(line.text.length, MOST_LETTERS);
  assert.equal(line.lost, 160 * piece.length - MOST_LETTERS);
  assert.equal(shape(next), `2@${start + 1} end`);
});

test("progress that writes its line anew is one line", () => {
  const check = (pieces, want) => {
    const assembler = new Assembler();
    let start = 0;
    const lines = pieces.flatMap((text) => assembler.push({ start, next: (start += text.length), attempt: 1, at: 1, text }));
    assert.deepEqual(lines.map((line) => line.text), want);
  };
  check(["10%\r20%\r100%\n"], ["100%"]);
  check(["10%\r", "20%", "\r", "\n"], ["20%"]);
  check(["a\r", "\n", "b\r\n"], ["a", "b"]);
  check(["10%", "\rdone\n"], ["done"]);
});

test("attempts are apart, and one that was cut off keeps its last line", () => {
  const assembler = new Assembler();
  const lines = assembler.push({ start: 0, next: 6, attempt: 1, at: 1, text: "a\nhalf" });
  lines.push(...assembler.push({ start: 6, next: 8, attempt: 2, at: 2, text: "b\n" }));
  assert.deepEqual(lines.map((line) => `${line.attempt} ${shape(line)}`), ["1 1@0 a", "1 2@2 half", "2 3@6 b"]);
});

test("groups hold what is in them, and are over with their attempt", () => {
  const text = "::group::Outer\na\n##[group]Inner\nb\n##[endgroup]\nc\n::endgroup::\nd\n::endgroup::\n::group::\ne\n";
  const lines = new Assembler().push(chunk(text, 0, text.length));
  assert.deepEqual(lines.map((line) => line.text), ["Outer", "a", "Inner", "b", "c", "d", "Group", "e"]);
  const [outer, a, inner, b, c, d, last, e] = lines;
  assert.equal(outer.group, null);
  assert.equal(a.group, outer.opens);
  assert.equal(inner.group, outer.opens);
  assert.equal(b.group, inner.opens);
  assert.equal(c.group, outer.opens);
  assert.equal(d.group, null);
  assert.equal(e.group, last.opens);
  outer.opens.folded = true;
  assert.deepEqual([outer, a, b, d].map((line) => folded(line.group)), [false, true, true, false]);
  const assembler = new Assembler();
  assembler.push(chunk("::group::x\n", 0, 11));
  assert.equal(assembler.push({ start: 11, next: 13, attempt: 2, at: 1, text: "y\n" })[0].group, null);
});

test("colours become classes, and nothing steers", () => {
  const check = (text, want) => assert.deepEqual(paint(text).map((p) => (p.classes ? `[${p.classes}]${p.text}` : p.text)), want);
  check("plain", ["plain"]);
  check("\x1b[31mred\x1b[0m and \x1b[1;92mbold green\x1b[22;39m.", ["[sgr-31]red", " and ", "[sgr-1 sgr-92]bold green", "."]);
  check("\x1b[38;5;196mx\x1b[48;2;1;31;3my\x1b[mz", ["xyz"]);
  check("\x1b[2J\x1b[1;1H\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b\x1bPq\x1b\\c\x1b(Bd", ["abcd"]);
  check("cut \x1b", ["cut "]);
  check("cut \x1b[3", ["cut 3"]);
  check("\u202egnp\x00\x07\x9b", ["\ufffdgnp\ufffd\ufffd\ufffd"]);
  check("<b>&\ttab", ["<b>&\ttab"]);
  const long = "\x1b]".repeat(50000);
  const before = process.cpuUsage().user;
  paint(long);
  assert.ok(process.cpuUsage().user - before < 2e6, "time that grows with the square");
});

test("links name a step and a line", () => {
  const check = (hash, want) => assert.deepEqual(readHash(hash), want);
  check("#step-plan%3Aaws%2Fdb%5Btokyo%5D:L42", { step: "plan:aws/db[tokyo]", kind: "L", at: 42 });
  check("#step-plan:aws/db[tokyo]:L42", { step: "plan:aws/db[tokyo]", kind: "L", at: 42 });
  check("#step-finish", { step: "finish", kind: null, at: null });
  check("#step-a:B4096", { step: "a", kind: "B", at: 4096 });
  check("#step-100%:L1", { step: "100%", kind: "L", at: 1 });
  check("#main", null);
  check("", null);
  assert.equal(encodeStep("a-b_c.d/e!~*'()ü"), "a-b_c.d%2Fe%21~%2A%27%28%29%C3%BC");
  assert.equal(encodeStep("plan:a-b_c.d~e/ü[x y]!*'()"), "plan%3Aa-b_c.d~e%2F%C3%BC%5Bx%20y%5D%21%2A%27%28%29", "as in run/tests.rs");
  const line = { offset: 77, number: 3 };
  assert.equal(hashOf("a:b", line, 10), "#step-a%3Ab:L13");
  assert.deepEqual(readHash(hashOf("a:b", line, null)), { step: "a:b", kind: "B", at: 77 });
});

test("earlier lines meet those that are here, and have their numbers", async () => {
  const all = Array.from({ length: 3000 }, (_, n) => (n % 10 === 9 ? "::endgroup::" : `line ${n + 1} é`));
  all[1500] = "x".repeat(9000);
  const text = `${all.join("\n")}\n`;
  const bytes = Buffer.from(text);
  globalThis.fetch = async (url) => {
    const query = new URL(url, "http://localhost").searchParams;
    const [from, limit] = [Number(query.get("from")), Number(query.get("limit"))];
    // Two chunks that meet within a line.
    const cut = from + Math.floor(limit / 2);
    const piece = (start, next) => ({ start, next, attempt: 1, at: 1, text: bytes.subarray(start, next).toString() });
    let safe = cut;
    while ((bytes[safe] & 0xc0) === 0x80) safe++;
    return { ok: true, json: async () => ({ chunks: [piece(from, safe), piece(safe, from + limit)] }) };
  };
  // As after opening at the end: numbers are counted from there.
  let first = { offset: bytes.length, number: 1 };
  const got = [];
  let found = null;
  for (let asked = 0; first.offset > 0; asked++) {
    assert.ok(asked < 100, "no progress");
    const { lines, shift } = await earlierLines("/log", first, 4000);
    got.unshift(...lines);
    found = shift;
    first = lines[0];
  }
  const want = all.map((line, n) => `${n + 1} ${line}`).filter((line) => !line.endsWith("::endgroup::"));
  assert.deepEqual(got.map((line) => `${line.number + found} ${line.text}`), want);
});
