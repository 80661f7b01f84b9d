// Live refresh, the panel without a page load, keys. Everything else works without this file.
// Markup is only ever parsed by the browser into an inert document and its nodes are moved over: nothing here can run a script.
"use strict";

(() => {
  const EVERY = 2000, SLOWEST = 30000, TIMEOUT = 15000;
  const list = document.getElementById("list");
  const filters = document.getElementById("filters");

  // -- forms and menus, on every page

  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.menu[open], details.help[open]")) if (!menu.contains(event.target)) menu.open = false;
  });
  filters?.addEventListener("change", (event) => {
    if (event.target.matches("[data-auto]") && event.target.value !== "custom") filters.requestSubmit();
  });
  filters?.addEventListener("formdata", (event) => {
    for (const [name, value] of [...event.formData]) if (value === "") event.formData.delete(name);
  });
  if (!document.querySelector("[data-live]")) return;
  document.documentElement.classList.add("scripted");

  // -- asking for the page again

  const chip = document.getElementById("live"), chipText = document.getElementById("live-text");
  const unreachable = document.getElementById("unreachable");
  let updated = Date.now(), ahead = Number(document.body.dataset.now) - updated; // how far the gateway's clock is ahead of this one
  let wait = EVERY, failures = 0, timer = 0, asking = null;

  function ask(address) {
    asking?.abort();
    return new Promise((done, failed) => {
      const request = asking = new XMLHttpRequest();
      request.open("GET", address);
      request.responseType = "document";
      request.timeout = TIMEOUT;
      request.setRequestHeader("X-Fragment", "1");
      request.onload = () => {
        if (request.status === 401) location.reload();
        else if (request.response && (request.status === 200 || request.status === 404)) {
          if (request.responseURL.split("#")[0] !== new URL(address, location).href.split("#")[0]) history.replaceState(null, "", request.responseURL); // it has become another page
          done(request.response);
        }
        else failed(new Error(`answer ${request.status}`));
      };
      request.onerror = request.ontimeout = () => failed(new Error("no answer"));
      request.onabort = () => failed(null);
      request.send();
    });
  }

  function show(fresh) {
    const focused = document.activeElement?.closest("[data-key]")?.dataset.key;
    const kept = new Set([...document.querySelectorAll("details[data-keep][open]")].map((found) => found.dataset.keep));
    for (const part of fresh.querySelectorAll("[data-until]")) { // ours ticks: only what else has changed counts
      part.textContent = document.querySelector(`[data-until="${part.dataset.until}"]`)?.textContent ?? "";
    }
    for (const region of document.querySelectorAll("[data-live]")) {
      const other = fresh.getElementById(region.id);
      if (!other) continue;
      for (const found of other.querySelectorAll("details[data-keep]")) found.open = kept.has(found.dataset.keep);
      if (region.id === "list" && sameShape(region, other)) showRows(region, other);
      else if (!region.isEqualNode(other)) showRegion(region, other);
    }
    picked();
    document.title = fresh.title;
    if (focused && document.activeElement === document.body) {
      document.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    }
    updated = Date.now();
    ahead = Number(fresh.body.dataset.now) - updated;
    tick();
  }

  function showRegion(region, other) {
    const places = [region, ...region.querySelectorAll("pre")].map((part) => [part.scrollTop, part.scrollLeft]);
    region.hidden = other.hidden;
    region.replaceChildren(...[...other.childNodes].map((node) => document.importNode(node, true)));
    [region, ...region.querySelectorAll("pre")].forEach((part, at) => {
      if (places[at]) [part.scrollTop, part.scrollLeft] = places[at];
    });
  }

  const sameShape = (region, other) => region.querySelector("#rows") && other.querySelector("#rows");

  function showRows(region, other) {
    const rows = region.querySelector("#rows"), wanted = [...other.querySelectorAll("#rows > tr")];
    const ids = new Set(wanted.map((row) => row.id));
    for (const row of [...rows.children]) if (!ids.has(row.id)) row.remove();
    wanted.forEach((row, at) => {
      const here = document.getElementById(row.id);
      const plain = here?.cloneNode(true);
      plain?.classList.remove("arrived");
      if (plain && plain.getAttribute("class") === "") plain.removeAttribute("class");
      let placed = here;
      if (!here || !plain.isEqualNode(row)) {
        placed = document.importNode(row, true);
        const box = placed.querySelector(".pick");
        if (box) box.checked = here?.querySelector(".pick")?.checked ?? false;
        if (here) here.replaceWith(placed);
        else placed.classList.add("arrived");
      }
      if (rows.children[at] !== placed) rows.insertBefore(placed, rows.children[at] ?? null);
    });
    for (const part of [".pager", ".acts-all"]) {
      const old = region.querySelector(part), fresh = other.querySelector(part);
      if (old && fresh && !old.isEqualNode(fresh)) old.replaceWith(document.importNode(fresh, true));
    }
  }

  // -- choosing rows

  function picked() {
    const all = document.getElementById("pick-all");
    if (!all) return;
    const boxes = [...list.querySelectorAll(".pick")], chosen = boxes.filter((box) => box.checked).length;
    all.checked = chosen > 0 && chosen === boxes.length;
    all.indeterminate = chosen > 0 && chosen < boxes.length;
  }
  list?.addEventListener("change", (event) => {
    if (event.target.id === "pick-all") for (const box of list.querySelectorAll(".pick")) box.checked = event.target.checked;
    picked();
  });

  // -- live refresh: not while nobody looks, nor under somebody's hands

  const selecting = () => {
    const selection = getSelection();
    return !selection.isCollapsed && (list?.parentElement ?? document.getElementById("main")).contains(selection.anchorNode);
  };
  const busy = () => selecting() || document.querySelector("details.menu[open]") !== null;

  async function refresh() {
    clearTimeout(timer);
    if (document.hidden || busy()) return later(EVERY);
    const started = performance.now();
    try {
      show(await ask(location.href));
      failures = 0;
      wait = Math.min(Math.max(EVERY, 10 * (performance.now() - started)), SLOWEST); // a slow search is not asked for all the time
    } catch (problem) {
      if (problem === null) return; // another request took its place
      failures += 1;
      wait = Math.min(EVERY * 2 ** failures, SLOWEST);
    }
    unreachable.hidden = failures < 2;
    document.body.classList.toggle("stale", failures >= 2);
    later(wait);
  }

  function later(millis) {
    clearTimeout(timer);
    timer = setTimeout(refresh, millis);
    tick();
  }

  function tick() {
    const seconds = Math.max(0, Math.round((Date.now() - updated) / 1000));
    const ago = seconds < 90 ? `${seconds} s ago` : `${Math.round(seconds / 60)} min ago`;
    const state = failures ? "down" : busy() ? "wait" : "on";
    chip.dataset.state = state;
    chipText.textContent = state === "down" ? `Unreachable · ${ago}` : state === "wait" ? `Refresh paused · ${ago}` : `Updated ${ago}`;
    for (const part of document.querySelectorAll("[data-until]")) {
      part.textContent = countdown(Number(part.dataset.until) - Date.now() - ahead);
    }
  }

  function countdown(left) {
    const seconds = Math.max(0, Math.ceil(left / 1000));
    const two = (number) => String(number).padStart(2, "0");
    const hours = Math.floor(seconds / 3600), minutes = Math.floor(seconds / 60) % 60;
    return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
  }

  // -- the panel

  async function go(address, { remember = true, focus = null } = {}) {
    clearTimeout(timer);
    const region = document.getElementById("detail").hidden ? list : document.getElementById("detail");
    region.setAttribute("aria-busy", "true");
    try {
      const fresh = await ask(address);
      if (remember) history.pushState(null, "", address);
      show(fresh);
      document.getElementById("detail").scrollTop = 0;
      document.querySelector(focus ?? "#detail-title")?.focus({ preventScroll: false });
      later(EVERY);
    } catch (problem) {
      if (problem !== null) location.href = address;
    } finally {
      region.removeAttribute("aria-busy");
    }
  }

  function close() {
    const link = document.querySelector("[data-close]");
    const row = document.querySelector("tr.chosen")?.id;
    if (link) go(link.href, { focus: row ? `#${CSS.escape(row)} [data-open]` : "#main" });
  }

  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    if (event.target.closest(".c-pick")) return;
    const link = event.target.closest("a");
    if (!list) return;
    if (link?.matches("[data-close]")) {
      event.preventDefault();
      close();
    } else if (link ? link.matches("[data-open]") : event.target.closest("#rows > tr") && !selecting()) {
      event.preventDefault();
      go((link ?? event.target.closest("tr").querySelector("[data-open]")).href);
    }
  });
  addEventListener("popstate", () => list && go(location.href, { remember: false, focus: "#detail-title, #main" }));

  // -- keys: / searches, up and down walk the rows, Escape closes

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.closest("input, select, textarea");
    const menu = document.querySelector("details.menu[open], details.help[open]");
    if (event.key === "Escape" && menu) {
      menu.open = false;
      menu.querySelector("summary").focus();
    } else if (event.key === "Escape" && !typing) close();
    else if (event.key === "/" && !typing && list) {
      event.preventDefault();
      document.getElementById("q").focus();
    } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && event.target.closest("#rows")) {
      event.preventDefault();
      const row = event.target.closest("tr");
      (event.key === "ArrowDown" ? row.nextElementSibling : row.previousElementSibling)?.querySelector("[data-open]").focus();
    }
  });

  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
  setInterval(tick, 1000);
  if (document.getElementById("detail")?.hidden === false) document.getElementById("detail-title")?.focus({ preventScroll: true });
  later(EVERY);
})();
