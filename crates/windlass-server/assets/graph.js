// The graph of stacks: dragged, zoomed, and lit around what is pointed at or focused. Everything else is links of the page.
(() => {
  "use strict";
  let kept = null; // The part of the picture that is shown, kept when the page swaps the picture.

  const start = () => {
    const svg = document.querySelector("#graph svg");
    const tools = document.getElementById("graph-tools");
    if (!svg || svg.dataset.ready) return;
    svg.dataset.ready = "yes";
    if (tools) tools.hidden = false;
    const all = svg.viewBox.baseVal;
    const full = { x: all.x, y: all.y, width: all.width, height: all.height };
    let view = { ...full };
    const show = () => {
      svg.setAttribute("viewBox", `${view.x} ${view.y} ${view.width} ${view.height}`);
      kept = { full, view };
    };

    // `at` is a point of the picture that stays where it is.
    const zoom = (factor, at = { x: view.x + view.width / 2, y: view.y + view.height / 2 }) => {
      const width = Math.min(Math.max(view.width * factor, 200), Math.max(full.width, full.height) * 2);
      const by = width / view.width;
      view = { x: at.x - (at.x - view.x) * by, y: at.y - (at.y - view.y) * by, width, height: view.height * by };
      show();
    };
    const point = (event) => {
      const matrix = svg.getScreenCTM();
      return matrix ? new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse()) : { x: 0, y: 0 };
    };
    // A large picture opens at a size that can be read, at its beginning, not as a whole.
    const begin = () => {
      const [width, height] = [svg.clientWidth / 0.7, svg.clientHeight / 0.7];
      if (full.width <= width && full.height <= height) return show();
      const boxes = [...svg.querySelectorAll(".node rect")].map((rect) => [rect.x.baseVal.value, rect.y.baseVal.value]);
      const [, top] = boxes.reduce((first, box) => (box[0] < first[0] ? box : first), [Infinity, full.y]);
      const y = Math.min(Math.max(top - height / 2, full.y), Math.max(full.y, full.y + full.height - height));
      view = { x: full.x, y, width, height };
      show();
    };
    if (kept && kept.full.width === full.width && kept.full.height === full.height) { view = kept.view; show(); } else begin();

    tools?.addEventListener("click", (event) => {
      const action = event.target.closest("button")?.dataset.zoom;
      if (action === "in") zoom(0.8);
      else if (action === "out") zoom(1.25);
      else if (action === "all") { view = { ...full }; show(); }
    });
    // A wheel alone scrolls the page.
    svg.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      zoom(Math.exp(event.deltaY / 400), point(event));
    }, { passive: false });

    const pointers = new Map();
    let dragged = false;
    let spread = 0;
    svg.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      if (pointers.size === 1) dragged = false;
    });
    svg.addEventListener("pointermove", (event) => {
      const last = pointers.get(event.pointerId);
      if (!last) return;
      const [dx, dy] = [event.clientX - last.x, event.clientY - last.y];
      if (!dragged && Math.hypot(dx, dy) < 4) return;
      // Only now: a captured pointer would take the click from the link under it.
      if (!dragged) { dragged = true; svg.setPointerCapture(event.pointerId); }
      pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      if (pointers.size === 2) {
        const [a, b] = [...pointers.values()];
        const now = Math.hypot(a.x - b.x, a.y - b.y);
        if (spread > 0 && now > 0) zoom(spread / now, point({ clientX: (a.x + b.x) / 2, clientY: (a.y + b.y) / 2 }));
        spread = now;
        return;
      }
      const scale = svg.getScreenCTM()?.a || 1;
      view = { ...view, x: view.x - dx / scale, y: view.y - dy / scale };
      show();
    });
    const end = (event) => { pointers.delete(event.pointerId); spread = 0; };
    svg.addEventListener("pointerup", end);
    svg.addEventListener("pointercancel", end);
    svg.addEventListener("dragstart", (event) => event.preventDefault());
    svg.addEventListener("click", (event) => { if (dragged) { event.preventDefault(); dragged = false; } }, true);

    const light = (node) => {
      const number = node?.dataset.node;
      const near = new Set([number]);
      for (const edge of svg.querySelectorAll(".edge")) {
        const touches = number !== undefined && (edge.dataset.from === number || edge.dataset.to === number);
        edge.classList.toggle("lit", touches);
        edge.classList.toggle("dim", number !== undefined && !touches);
        if (touches) near.add(edge.dataset.from).add(edge.dataset.to);
      }
      for (const other of svg.querySelectorAll(".node")) {
        other.classList.toggle("dim", number !== undefined && !near.has(other.dataset.node));
      }
    };
    const node = (event) => event.target.closest?.(".node");
    svg.addEventListener("pointerover", (event) => light(node(event)));
    svg.addEventListener("pointerleave", () => light(null));
    svg.addEventListener("focusin", (event) => {
      const focused = node(event);
      if (!focused || !focused.matches(":focus-visible")) return;
      light(focused);
      // Whoever goes from box to box by keyboard sees each.
      const box = focused.getBBox();
      const inside = box.x >= view.x && box.y >= view.y && box.x + box.width <= view.x + view.width
        && box.y + box.height <= view.y + view.height;
      if (!inside) {
        view = { ...view, x: box.x + box.width / 2 - view.width / 2, y: box.y + box.height / 2 - view.height / 2 };
        show();
      }
    });
    svg.addEventListener("focusout", () => light(null));
  };

  document.addEventListener("DOMContentLoaded", start);
  document.addEventListener("windlass:swapped", start);
})();
