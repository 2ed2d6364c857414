// The log of a step, live. A log is one stream of bytes; every line knows at which byte it begins, so that a connection that
// was lost goes on where it was, and what was dropped can be had again. The lines that are kept are few, however many come.
(() => {
  "use strict";
  const MOST_LINES = 20000; // In the page.
  const MOST_LETTERS = 16384; // Of one line.
  const LINES_IN_BLOCK = 500;
  const LINES_AT_ONCE = 100;
  const FRAME = 12; // Milliseconds.
  const PART = 256 * 1024; // Bytes that are read at once backwards.
  const WHOLE = 4 * 1024 * 1024; // A longer log is opened at its end.

  // What `text` takes as UTF-8. A mark for bytes that were none counts `mark` bytes.
  const byteLength = (text, mark = 3) => {
    let bytes = 0;
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if (code < 0x80) bytes += 1;
      else if (code < 0x800) bytes += 2;
      else if (code >= 0xd800 && code < 0xdc00) { bytes += 4; i++; }
      else bytes += code === 0xfffd ? mark : 3;
    }
    return bytes;
  };

  // What of `text` comes after its first `bytes` bytes.
  const afterBytes = (text, bytes, mark) => {
    let i = 0;
    for (let passed = 0; i < text.length && passed < bytes;) {
      const wide = text.codePointAt(i) > 0xffff ? 2 : 1;
      passed += byteLength(text.slice(i, i + wide), mark);
      i += wide;
    }
    return text.slice(i);
  };

  const GROUP = /^(?:::group::|##\[group\])(.*)$/;
  const END_GROUP = /^(?:::endgroup::|##\[endgroup\])/;

  // Makes lines of chunks, wherever those are cut. A line: { offset, number, attempt, at, text, lost, group, opens }.
  class Assembler {
    // `number`: of the line that begins at `offset`; `within`: the stream begins somewhere within a line, which is left out.
    constructor({ offset = 0, number = 1, within = false } = {}) {
      this.next = offset;
      this.number = number;
      this.within = within;
      this.open = null;
      this.group = null;
      this.attempt = null;
    }

    misses(chunk) { return chunk.start > this.next; }

    push(chunk) {
      let { start, text } = chunk;
      const { next, attempt, at } = chunk;
      const lines = [];
      if (next <= this.next) return lines; // Had before.
      const length = next - start;
      // Bytes that are no text make the lengths differ: then each mark stands for one.
      const mark = byteLength(text) === length ? 3 : 1;
      if (start < this.next) {
        text = afterBytes(text, this.next - start, mark);
        start = this.next;
      }
      if (attempt !== this.attempt) {
        this.close(lines);
        this.attempt = attempt;
        this.group = null;
      }
      const plain = text.length === next - start;
      let offset = start;
      let from = 0;
      for (;;) {
        const end = text.indexOf("\n", from);
        const piece = text.slice(from, end < 0 ? text.length : end);
        if (!this.open && (piece || end >= 0)) {
          this.open = { offset, number: this.number, attempt, at, text: "", lost: 0, returned: false };
        }
        if (piece) this.extend(piece);
        if (end < 0) break;
        offset = plain ? start + end + 1 : offset + byteLength(piece, mark) + 1;
        this.close(lines);
        from = end + 1;
      }
      this.next = next;
      return lines;
    }

    // A carriage return writes the line anew, as progress does on a terminal.
    extend(piece) {
      const open = this.open;
      const returned = piece.endsWith("\r");
      if (returned) piece = piece.slice(0, -1);
      if (piece) {
        const last = piece.lastIndexOf("\r");
        if (open.returned || last >= 0) {
          open.text = "";
          open.lost = 0;
          piece = piece.slice(last + 1);
        }
        const taken = piece.slice(0, MOST_LETTERS - open.text.length);
        open.text += taken;
        open.lost += piece.length - taken.length;
      }
      open.returned = returned || (open.returned && !piece);
    }

    close(lines) {
      const line = this.open;
      if (!line) return;
      this.open = null;
      this.number += 1;
      if (this.within) { this.within = false; return; }
      if (END_GROUP.test(line.text)) { this.group = this.group?.parent ?? null; return; }
      line.group = this.group;
      const title = GROUP.exec(line.text);
      if (title) {
        line.text = title[1].trim() || "Group";
        line.opens = this.group = { parent: this.group, folded: false };
      }
      lines.push(line);
    }

    // Nothing more will come.
    end() {
      const lines = [];
      this.close(lines);
      return lines;
    }
  }

  const ESCAPES = new RegExp([
    "\\x1b\\[([0-9;:]*)m", // Colours and weights.
    "\\x1b\\[[0-?]*[ -/]*[@-~]", // What moves the cursor and so on.
    "\\x1b\\][^\\x07\\x1b]*(?:\\x07|\\x1b\\\\)?", // Titles and links.
    "\\x1b[PX^_][^\\x1b]*(?:\\x1b\\\\)?",
    "\\x1b[ -/]*[0-~]?",
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u061c\\u202a-\\u202e\\u2066-\\u2069\\ufeff]",
  ].join("|"), "g");

  // Text in pieces with classes. What steers terminals goes; control characters and turns of direction become visible.
  const paint = (text) => {
    const pieces = [];
    const style = new Set();
    let color = null;
    let from = 0;
    const add = (piece) => {
      if (!piece) return;
      const classes = [...style, ...(color === null ? [] : [color])].map((code) => `sgr-${code}`).join(" ");
      const last = pieces.at(-1);
      if (last && last.classes === classes) last.text += piece;
      else pieces.push({ text: piece, classes });
    };
    for (const match of text.matchAll(ESCAPES)) {
      add(text.slice(from, match.index));
      from = match.index + match[0].length;
      if (match[0][0] !== "\x1b") { add("\ufffd"); continue; }
      if (match[1] === undefined) continue;
      const codes = match[1].split(";").map((code) => parseInt(code, 10) || 0);
      for (let i = 0; i < codes.length; i++) {
        const code = codes[i];
        if (code === 0) { style.clear(); color = null; }
        else if (code <= 4) style.add(code);
        else if (code === 22) { style.delete(1); style.delete(2); }
        else if (code === 23 || code === 24) style.delete(code - 20);
        else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97)) color = code;
        else if (code === 39) color = null;
        else if (code === 38 || code === 48 || code === 58) i += codes[i + 1] === 5 ? 2 : codes[i + 1] === 2 ? 4 : 0;
      }
    }
    add(text.slice(from));
    return pieces;
  };

  // `#step-ID`, `#step-ID:L42` (a line), `#step-ID:B4096` (a byte, where lines are not counted).
  const readHash = (hash) => {
    const match = /^#step-(.+?)(?::([LB])(\d+))?$/.exec(hash);
    if (!match) return null;
    let step = match[1];
    try { step = decodeURIComponent(step); } catch { /* As it is. */ }
    return { step, kind: match[2] ?? null, at: match[2] ? Number(match[3]) : null };
  };
  // As the page writes them.
  const encodeStep = (step) => encodeURIComponent(step)
    .replace(/[!*'()]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
  // `shift`: what is added to a line's number to have its place in the whole log; null where the beginning was not read.
  const hashOf = (step, line, shift) =>
    `#step-${encodeStep(step)}:${shift === null ? `B${line.offset}` : `L${line.number + shift}`}`;

  class Viewer {
    constructor(root) {
      this.root = root;
      const get = (id) => document.getElementById(id);
      for (const name of ["step", "search", "before", "after", "hits", "only", "times", "follow", "old", "old-choice",
        "download", "state", "box", "earlier", "lines", "later", "tools", "empty"]) this[name] = get(`log-${name}`);
      this.shown = null;
      this.source = null;
      this.frameAsked = false;
      this.clear();
      this.step.addEventListener("change", () => { location.hash = `step-${this.step.value}`; });
      addEventListener("hashchange", () => this.go());
      this.times.addEventListener("change", () => this.lines.classList.toggle("times", this.times.checked));
      this.follow.addEventListener("change", () => { if (this.follow.checked) this.resume(); });
      this.old.addEventListener("change", () => this.showAttempts());
      this.only.addEventListener("change", () => this.lines.classList.toggle("only", this.only.checked && this.term !== ""));
      this.earlier.addEventListener("click", () => this.loadEarlier());
      this.later.addEventListener("click", () => { this.trimTop(MOST_LINES / 2); this.resume(); });
      let typing = null;
      this.search.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => this.find(), 150); });
      this.search.addEventListener("keydown", (event) => {
        if (event.key === "Enter") { event.preventDefault(); this.turn(event.shiftKey ? -1 : 1); }
      });
      this.before.addEventListener("click", () => this.turn(-1));
      this.after.addEventListener("click", () => this.turn(1));
      this.lines.addEventListener("click", (event) => {
        const fold = event.target.closest("button.fold");
        if (fold) this.fold(fold);
      });
      // Whoever scrolls up wants to read.
      const stay = () => { this.follow.checked = false; };
      this.box.addEventListener("wheel", (event) => { if (event.deltaY < 0) stay(); }, { passive: true });
      this.box.addEventListener("touchmove", stay, { passive: true });
      this.box.addEventListener("keydown", (event) => { if (["ArrowUp", "PageUp", "Home"].includes(event.key)) stay(); });
      this.box.addEventListener("pointerdown", (event) => {
        if (event.target === this.box && event.offsetX > this.box.clientWidth) stay();
      });
      // A step that began after the page was loaded.
      document.addEventListener("windlass:swapped", () => { this.addSteps(); if (this.shown === null) this.go(); });
      addEventListener("pagehide", () => this.disconnect());
      this.go();
    }

    addSteps() {
      for (const link of document.querySelectorAll("a[data-log]")) {
        const value = link.hash.slice("#step-".length);
        if ([...this.step.options].some((option) => option.value === value)) continue;
        const title = link.closest("tr").querySelector("[data-title]").textContent;
        const option = new Option(title, value); // A log that has only begun is read from its beginning.
        option.dataset.bytes = "0";
        this.step.add(option);
      }
    }

    optionOf(step) {
      const value = encodeStep(step);
      return [...this.step.options].find((option) => option.value === value);
    }

    // Shows what the address names, or else what the page suggests.
    go() {
      const target = readHash(location.hash);
      const step = target && this.optionOf(target.step) ? target.step
        : this.shown ?? (this.root.dataset.chosen ? decodeURIComponent(this.root.dataset.chosen) : null);
      const option = step === null ? null : this.optionOf(step);
      this.tools.hidden = this.step.options.length === 0;
      this.empty.hidden = !this.tools.hidden;
      if (!option) return;
      const named = target?.step === step ? target : null;
      const again = this.shown === step;
      if (again && !named?.kind) {
        if (named) this.root.scrollIntoView({ block: "start" });
        return;
      }
      if (again && this.reveal(named)) return;
      this.open(step, option, named);
      if (named) this.root.scrollIntoView({ block: "start" });
    }

    open(step, option, target) {
      this.disconnect();
      this.clear();
      this.shown = step;
      option.selected = true;
      this.base = `${this.root.dataset.base}${encodeStep(step)}/log`;
      this.download.href = this.base;
      this.box.hidden = false;
      const bytes = Number(option.dataset.bytes);
      let offset = 0;
      if (target?.kind === "B") offset = Math.max(0, target.at - PART / 16);
      else if (!target?.kind && bytes > WHOLE) offset = bytes - WHOLE / 4;
      this.seek = target?.kind ? target : null;
      this.follow.checked = !this.seek;
      this.shift = offset === 0 ? 0 : null;
      this.assembler = new Assembler({ offset, within: offset > 0 });
      this.connect();
    }

    clear() {
      this.blocks = []; // Each { element, attempt, items: [{ line, element, plain }] }, none of them empty.
      this.count = 0;
      this.queue = [];
      this.latest = 0;
      this.term = this.search.value.trim().toLowerCase();
      this.hit = null;
      this.seek = null;
      this.ended = false;
      this.reopened = null;
      this.partial = null;
      this.lines.replaceChildren();
      this.earlier.hidden = this.later.hidden = true;
      this["old-choice"].hidden = true;
      this.tell("");
    }

    tell(text) { if (this.state.textContent !== text) this.state.textContent = text; }

    connect() {
      this.disconnect();
      this.ended = false;
      this.later.hidden = true;
      let wait = 1000;
      const open = () => {
        const source = this.source = new EventSource(`${this.base}/stream?from=${this.assembler.next}`);
        source.addEventListener("open", () => { wait = 1000; this.tell("Live"); });
        source.addEventListener("message", (event) => this.receive(event));
        source.addEventListener("end", () => {
          this.disconnect();
          this.ended = true;
          this.queue.push(...this.assembler.end());
          this.tell("");
          this.soon();
        });
        source.addEventListener("error", () => {
          this.tell("Connection lost, trying again");
          if (source.readyState !== EventSource.CLOSED) return; // The browser tries again, from the last id.
          this.retry = setTimeout(open, wait * (0.75 + Math.random() / 2));
          wait = Math.min(wait * 2, 30000);
        });
      };
      open();
    }

    disconnect() {
      clearTimeout(this.retry);
      this.source?.close();
      this.source = null;
    }

    get connected() { return this.source !== null; }

    receive(event) {
      const chunk = JSON.parse(event.data);
      chunk.next ??= Number(event.lastEventId);
      if (this.assembler.misses(chunk)) {
        // Asked for once more; what is still missing is not kept any more.
        if (this.reopened !== this.assembler.next) {
          this.reopened = this.assembler.next;
          this.connect();
          return;
        }
        this.queue.push(...this.assembler.end());
        this.queue.push({ mark: `${chunk.start - this.assembler.next} bytes are not kept any more`, attempt: chunk.attempt });
        this.assembler = new Assembler({ offset: chunk.start });
        this.renumber(null);
      }
      // On the way to the line that is linked to, what is far before it is passed over.
      const wanted = (line) => this.seek?.kind !== "L" || this.placeOf(line, "L") >= this.seek.at - MOST_LINES / 2;
      for (const line of this.assembler.push(chunk)) if (wanted(line)) this.queue.push(line);
      if (!this.follow.checked) {
        if (this.count + this.queue.length >= MOST_LINES) this.pause();
      } else if (this.queue.length > MOST_LINES) {
        // More comes than can be shown: only the end of it is, soon. What is left out can be loaded again.
        this.queue = this.queue.slice(-MOST_LINES / 10);
        this.trimTop(Infinity);
      }
      this.soon();
    }

    // What a link says of a line.
    placeOf(line, kind) { return kind === "B" ? line.offset : line.number + (this.shift ?? 0); }

    pause() {
      this.disconnect();
      this.later.hidden = false;
      this.tell("Paused here: nothing moves while it is read");
    }

    resume() {
      if (!this.connected && !this.ended && this.assembler) this.connect();
      this.soon();
    }

    soon() {
      if (this.frameAsked) return;
      this.frameAsked = true;
      requestAnimationFrame(() => { this.frameAsked = false; this.frame(); });
    }

    frame() {
      this.partial?.remove();
      this.partial = null;
      // As much as a frame has time for.
      let taken = 0;
      for (const end = performance.now() + FRAME; taken < this.queue.length; taken += LINES_AT_ONCE) {
        this.append(this.queue.slice(taken, taken + LINES_AT_ONCE));
        if (performance.now() >= end) { taken += LINES_AT_ONCE; break; }
      }
      this.queue.splice(0, taken);
      if (this.follow.checked) this.trimTop(this.count - MOST_LINES);
      if (this.seek && this.reveal(this.seek)) this.seek = null;
      else if (this.seek && this.ended && !this.queue.length) {
        this.seek = null;
        this.tell("The line that the link names is not there");
      }
      if (!this.queue.length && this.assembler?.open && !this.assembler.within) {
        this.partial = this.element({ ...this.assembler.open, group: null }).element;
        this.lines.append(this.partial);
      }
      this.earlier.hidden = !this.first || this.first.offset === 0;
      if (this.follow.checked) this.box.scrollTop = this.box.scrollHeight;
      if (this.term) this.tellHits();
      if (this.queue.length) this.soon();
    }

    get first() { return this.blocks[0]?.items.find((item) => !item.line.mark)?.line ?? null; }

    append(batch) {
      for (const line of batch) {
        let block = this.blocks.at(-1);
        if (!block || block.attempt !== line.attempt || block.items.length >= LINES_IN_BLOCK) {
          const begins = !block || block.attempt !== line.attempt;
          block = this.block(line.attempt);
          this.blocks.push(block);
          this.lines.append(block.element);
          if (begins && line.attempt > 1) this.put(block, { mark: `Attempt ${line.attempt}`, attempt: line.attempt });
          if (line.attempt > this.latest) { this.latest = line.attempt; this.showAttempts(); }
        }
        this.put(block, line);
      }
    }

    block(attempt) {
      const element = document.createElement("div");
      element.className = "log-block";
      element.hidden = attempt < this.latest && !this.old.checked;
      return { element, attempt, items: [] };
    }

    put(block, line) {
      const item = this.element(line);
      block.items.push(item);
      block.element.append(item.element);
      // Its height will not change much any more: it need not be drawn where it is not seen.
      if (block.items.length === LINES_IN_BLOCK) block.element.classList.add("full");
      this.count += 1;
    }

    element(line) {
      const element = document.createElement("div");
      element.className = "log-line";
      if (line.mark) {
        element.classList.add("mark");
        element.textContent = line.mark;
        return { line, element, plain: "" };
      }
      const link = document.createElement("a");
      this.number(link, line);
      link.dataset.at = new Date(line.at / 1000).toISOString().slice(11, 23);
      link.tabIndex = -1;
      const content = document.createElement(line.opens ? "button" : "span");
      if (line.opens) {
        content.type = "button";
        content.className = "fold";
        content.setAttribute("aria-expanded", "true");
      }
      let plain = "";
      for (const piece of paint(line.text)) {
        plain += piece.text;
        if (!piece.classes) { content.append(piece.text); continue; }
        const span = document.createElement("span");
        span.className = piece.classes;
        span.textContent = piece.text;
        content.append(span);
      }
      if (line.lost) content.append(` … (${line.lost} more characters: download it to see them)`);
      element.append(link, content);
      const item = { line, element, plain: plain.toLowerCase() };
      element.classList.toggle("hit", this.term !== "" && item.plain.includes(this.term));
      element.hidden = folded(line.group);
      return item;
    }

    number(link, line) {
      const number = this.shift === null ? null : line.number + this.shift;
      link.href = hashOf(this.shown, line, this.shift);
      link.dataset.n = number ?? "·";
      link.setAttribute("aria-label", number === null ? `byte ${line.offset}` : `line ${number}`);
    }

    renumber(shift) {
      this.shift = shift;
      for (const { line, element } of this.items()) if (!line.mark) this.number(element.firstChild, line);
    }

    *items() { for (const block of this.blocks) yield* block.items; }

    // Whole blocks, as long as at least `lines` lines go.
    trimTop(lines) {
      while (this.blocks.length && this.blocks[0].items.length <= lines) {
        const block = this.blocks.shift();
        lines -= block.items.length;
        this.count -= block.items.length;
        block.element.remove();
      }
    }

    // Takes away the end; reading goes on there when it is asked for.
    trimBottom(lines) {
      let cut = null;
      while (this.blocks.length > 1 && this.blocks.at(-1).items.length <= lines) {
        const block = this.blocks.pop();
        lines -= block.items.length;
        this.count -= block.items.length;
        cut = block.items.find((item) => !item.line.mark)?.line ?? cut;
        block.element.remove();
      }
      if (!cut) return;
      this.queue = [];
      this.ended = false;
      this.assembler = new Assembler({ offset: cut.offset, number: cut.number });
      this.assembler.attempt = this.blocks.at(-1).attempt;
      this.pause();
    }

    async loadEarlier() {
      const first = this.first;
      if (!first || this.loading) return;
      this.loading = true;
      this.follow.checked = false;
      try {
        const step = this.shown;
        const { lines, shift } = await earlierLines(this.base, first);
        if (this.shown !== step || this.first !== first) return;
        const height = this.box.scrollHeight;
        const old = [...this.blocks];
        this.blocks = [];
        const latest = this.latest;
        const more = document.createDocumentFragment();
        for (const line of lines) {
          let block = this.blocks.at(-1);
          if (!block || block.attempt !== line.attempt || block.items.length >= LINES_IN_BLOCK) {
            block = this.block(line.attempt);
            this.blocks.push(block);
            more.append(block.element);
          }
          this.put(block, line);
        }
        this.lines.prepend(more);
        this.blocks.push(...old);
        this.latest = Math.max(latest, ...this.blocks.map((block) => block.attempt));
        this.showAttempts();
        if (shift !== null && this.shift === null) this.renumber(shift);
        this.box.scrollTop += this.box.scrollHeight - height;
        this.trimBottom(this.count - MOST_LINES);
        this.earlier.hidden = !this.first || this.first.offset === 0;
      } catch (error) {
        this.tell(`Earlier lines cannot be loaded: ${error.message}`);
      } finally {
        this.loading = false;
      }
    }

    showAttempts() {
      const several = this.blocks.some((block) => block.attempt < this.latest);
      this["old-choice"].hidden = !several;
      for (const block of this.blocks) block.element.hidden = block.attempt < this.latest && !this.old.checked;
    }

    fold(button) {
      const item = [...this.items()].find((item) => item.element === button.parentElement);
      if (!item) return;
      item.line.opens.folded = !item.line.opens.folded;
      button.setAttribute("aria-expanded", String(!item.line.opens.folded));
      for (const { line, element } of this.items()) if (line.group) element.hidden = folded(line.group);
    }

    // Whether the line that is linked to is here; it is brought into view.
    reveal({ kind, at }) {
      for (const item of this.items()) {
        const { line } = item;
        if (line.mark || this.placeOf(line, kind) < at) continue;
        // It was before all that is here; or lines have no numbers here.
        if (line === this.first && this.placeOf(line, kind) > at && line.offset > 0) return false;
        if (kind === "L" && this.shift === null) return false;
        this.follow.checked = false;
        this.lines.querySelector(".linked")?.classList.remove("linked");
        item.element.classList.add("linked");
        this.show(item);
        return true;
      }
      return false;
    }

    show(item) {
      for (let group = item.line.group; group; group = group.parent) group.folded = false;
      for (const { line, element } of this.items()) {
        if (line.group) element.hidden = folded(line.group);
        if (line.opens) element.lastChild.setAttribute("aria-expanded", String(!line.opens.folded));
      }
      if (item.line.attempt < this.latest) { this.old.checked = true; this.showAttempts(); }
      item.element.scrollIntoView({ block: "center" });
    }

    find() {
      this.term = this.search.value.trim().toLowerCase();
      this.hit?.classList.remove("here");
      this.hit = null;
      for (const { element, plain } of this.items()) element.classList.toggle("hit", this.term !== "" && plain.includes(this.term));
      this.lines.classList.toggle("only", this.only.checked && this.term !== "");
      this.tellHits();
    }

    tellHits() {
      const hits = this.lines.getElementsByClassName("hit").length;
      const place = this.hit ? ` (${[...this.lines.getElementsByClassName("hit")].indexOf(this.hit) + 1})` : "";
      const text = !this.term ? "" : hits === 1 ? "1 line" : `${hits} lines`;
      if (this.hits.textContent !== text + place) this.hits.textContent = text + place;
    }

    turn(by) {
      const hits = [...this.items()].filter((item) => item.element.classList.contains("hit"));
      if (!hits.length) return;
      const now = hits.findIndex((item) => item.element === this.hit);
      const item = hits[(now < 0 ? (by > 0 ? 0 : hits.length - 1) : now + by + hits.length) % hits.length];
      this.hit?.classList.remove("here");
      this.hit = item.element;
      this.hit.classList.add("here");
      this.follow.checked = false;
      this.show(item);
      this.tellHits();
    }
  }

  const folded = (group) => {
    for (; group; group = group.parent) if (group.folded) return true;
    return false;
  };

  // Whole lines before `first`, at least one of them, numbered down from it; `shift` where the log's beginning is among them.
  const earlierLines = async (base, first, part = PART) => {
    const from = Math.max(0, first.offset - part);
    const response = await fetch(`${base}?from=${from}&limit=${first.offset - from}`, { headers: { Accept: "application/json" } });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    const { chunks } = await response.json();
    const assembler = new Assembler({ offset: from, within: from > 0 });
    const lines = chunks.flatMap((chunk) => assembler.push(chunk)).concat(assembler.end());
    // One line, longer than what was asked for.
    if (!lines.length && from > 0) return earlierLines(base, first, part * 4);
    const begin = 1 + first.number - assembler.number;
    for (const line of lines) line.number += begin - 1;
    return { lines, shift: from === 0 ? 1 - begin : null };
  };

  if (typeof module !== "undefined") {
    module.exports = { Assembler, byteLength, afterBytes, paint, readHash, encodeStep, hashOf, folded, earlierLines, MOST_LETTERS };
  } else {
    const start = () => { const root = document.getElementById("log"); if (root) new Viewer(root); };
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
    else start();
  }
})();
