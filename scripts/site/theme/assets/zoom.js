// Pictures open in a window of their own, with pan and zoom: by wheel, pinch, drag, keys and buttons.
(() => {
  const least = 0.2;
  const most = 12;

  function open(picture) {
    const dialog = document.createElement("dialog");
    dialog.className = "zoom";
    dialog.setAttribute("aria-label", picture.alt);
    const shown = picture.cloneNode();
    shown.removeAttribute("loading");
    shown.draggable = false;
    const stage = document.createElement("div");
    stage.className = "zoom__stage";
    stage.append(shown);
    const bar = document.createElement("div");
    bar.className = "zoom__bar";
    dialog.append(stage, bar);
    document.body.append(dialog);

    let [scale, x, y] = [1, 0, 0];
    const draw = () => {
      shown.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    };
    const fit = () => {
      const [width, height] = [shown.offsetWidth, shown.offsetHeight];
      scale = Math.min(stage.clientWidth / width, stage.clientHeight / height) * 0.96;
      x = (stage.clientWidth - width * scale) / 2;
      y = (stage.clientHeight - height * scale) / 2;
      draw();
    };
    const zoom = (factor, atX = stage.clientWidth / 2, atY = stage.clientHeight / 2) => {
      const next = Math.min(most, Math.max(least, scale * factor));
      x = atX - ((atX - x) * next) / scale;
      y = atY - ((atY - y) * next) / scale;
      scale = next;
      draw();
    };
    const move = (byX, byY) => {
      x += byX;
      y += byY;
      draw();
    };

    for (const [label, text, act] of [
      ["Zoom in", "+", () => zoom(1.4)],
      ["Zoom out", "−", () => zoom(1 / 1.4)],
      ["Fit to the window", "Fit", fit],
      ["Close", "×", () => dialog.close()],
    ]) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text;
      button.title = label;
      button.setAttribute("aria-label", label);
      button.addEventListener("click", act);
      bar.append(button);
    }

    const keys = {
      "+": () => zoom(1.4),
      "=": () => zoom(1.4),
      "-": () => zoom(1 / 1.4),
      0: fit,
      ArrowLeft: () => move(80, 0),
      ArrowRight: () => move(-80, 0),
      ArrowUp: () => move(0, 80),
      ArrowDown: () => move(0, -80),
    };
    dialog.addEventListener("keydown", (event) => {
      event.stopPropagation(); // The page has shortcuts of its own.
      if (!(event.key in keys) || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      keys[event.key]();
    });
    stage.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), event.clientX, event.clientY);
      },
      { passive: false },
    );

    const fingers = new Map();
    const apart = () => {
      const [one, other] = [...fingers.values()];
      return Math.hypot(one.x - other.x, one.y - other.y);
    };
    stage.addEventListener("pointerdown", (event) => {
      stage.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    });
    stage.addEventListener("pointermove", (event) => {
      const last = fingers.get(event.pointerId);
      if (!last) return;
      const before = fingers.size === 2 ? apart() : 0;
      fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      move((event.clientX - last.x) / fingers.size, (event.clientY - last.y) / fingers.size);
      if (fingers.size === 2 && before > 0) {
        const [one, other] = [...fingers.values()];
        zoom(apart() / before, (one.x + other.x) / 2, (one.y + other.y) / 2);
      }
    });
    for (const end of ["pointerup", "pointercancel"]) {
      stage.addEventListener(end, (event) => fingers.delete(event.pointerId));
    }
    stage.addEventListener("dblclick", (event) => zoom(2, event.clientX, event.clientY));

    dialog.addEventListener("close", () => {
      removeEventListener("resize", fit);
      dialog.remove();
      picture.parentElement.focus();
    });
    addEventListener("resize", fit);
    dialog.showModal();
    if (shown.complete) fit();
    else shown.addEventListener("load", fit);
  }

  for (const picture of document.querySelectorAll(".md-content img")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "zoomable";
    button.title = "Open the picture, with pan and zoom";
    picture.replaceWith(button);
    button.append(picture);
    button.addEventListener("click", () => open(picture));
  }

  // Tables and code that scroll sideways can be scrolled by keys, too.
  const reach = () => {
    for (const box of document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code")) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };
  addEventListener("load", reach);
  addEventListener("resize", reach);
})();
