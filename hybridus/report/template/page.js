"use strict";
(() => {
  const box = document.getElementById("map-box");
  const tip = document.getElementById("tip");
  const text = document.getElementById("tip-text");
  const picture = tip.querySelector(".thumbnail");
  const side = Number(box.dataset.side), columns = Number(box.dataset.columns), zoom = 128 / side;
  let at = null;
  function show(dot) {
    if (at) at.classList.remove("at");
    at = dot;
    tip.hidden = !dot;
    if (!dot) return;
    dot.classList.add("at");
    const { place, name, truth, answer } = dot.dataset;
    text.textContent = `${name}\n${truth}` + (answer && answer !== truth ? `, taken for ${answer}` : "");
    if (picture) {
      const column = place % columns, row = Math.floor(place / columns);
      picture.style.width = picture.style.height = `${side * zoom}px`;
      picture.style.backgroundSize = `${columns * side * zoom}px auto`;
      picture.style.backgroundPosition = `${-column * side * zoom}px ${-row * side * zoom}px`;
    }
    const frame = box.getBoundingClientRect(), spot = dot.getBoundingClientRect();
    const left = spot.left - frame.left + 14, top = spot.top - frame.top + 14;
    tip.style.left = `${Math.max(0, Math.min(left, frame.width - tip.offsetWidth))}px`;
    tip.style.top = `${top + tip.offsetHeight > frame.height ? Math.max(0, top - tip.offsetHeight - 24) : top}px`;
  }
  for (const kind of ["pointerover", "click"]) {
    box.addEventListener(kind, (event) => show(event.target.closest("circle")));
  }
  box.addEventListener("pointerleave", () => show(null));
})();
