// Looks closer at steps over time: the inner drawing becomes wider than the outer one and is moved within it.
(() => {
  "use strict";
  const frame = document.getElementById("run-frame");
  let [from, width] = [0, 1]; // What is seen of the whole.
  let drawn = null;

  const draw = () => {
    const svg = frame.querySelector("svg.gantt");
    if (!svg) return;
    const inner = svg.querySelector(".gantt-time");
    inner.setAttribute("x", `${(-from / width) * 100}%`);
    inner.setAttribute("width", `${100 / width}%`);
    document.getElementById("gantt-tools").hidden = false;
    document.getElementById("gantt-all").disabled = width === 1;
  };
  const look = (at, newWidth) => {
    const middle = from + width * at;
    width = Math.min(1, Math.max(1 / 500, newWidth));
    from = Math.min(1 - width, Math.max(0, middle - width * at));
    draw();
  };

  frame.addEventListener("click", (event) => {
    if (event.target.id === "gantt-closer") look(0.5, width / 2);
    if (event.target.id === "gantt-wider") look(0.5, width * 2);
    if (event.target.id === "gantt-all") look(0, 1);
  });
  frame.addEventListener("wheel", (event) => {
    const svg = event.target.closest("svg.gantt");
    if (!svg || !event.ctrlKey) return;
    event.preventDefault();
    const box = svg.getBoundingClientRect();
    look((event.clientX - box.left) / box.width, width * 2 ** (Math.sign(event.deltaY) / 2));
  }, { passive: false });
  // Drawn closer, it can be pulled aside.
  frame.addEventListener("pointerdown", (event) => {
    const svg = event.target.closest("svg.gantt");
    drawn = svg && width < 1 ? { x: event.clientX, from, across: svg.getBoundingClientRect().width } : null;
  });
  addEventListener("pointermove", (event) => {
    if (!drawn) return;
    from = Math.min(1 - width, Math.max(0, drawn.from - ((event.clientX - drawn.x) / drawn.across) * width));
    draw();
  });
  addEventListener("pointerup", () => { drawn = null; });
  // What a bar is, in words, also where there is no pointer that rests.
  const tell = (event) => {
    const title = event.target.closest?.(".span")?.querySelector("title");
    const told = document.getElementById("gantt-told");
    if (told && title) told.textContent = title.textContent;
  };
  frame.addEventListener("pointerover", tell);
  frame.addEventListener("click", tell);
  document.addEventListener("windlass:swapped", draw);
  draw();
})();
