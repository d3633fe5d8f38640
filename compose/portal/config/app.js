// The portal's behaviour: theme, live health, tabs, copy buttons, project choice. The page is readable without it.
"use strict";

(() => {
  const HEALTH_EVERY_MS = 15_000;
  const STATE_TEXT = {
    healthy: "Healthy",
    starting: "Starting",
    unreachable: "Not reachable",
    unknown: "Unknown",
  };
  const root = document.documentElement;
  root.classList.add("js");

  // Storage can be forbidden (private windows, policies); then choices last as long as the page.
  const remembered = {
    get(key) {
      try {
        return localStorage.getItem(`portal.${key}`);
      } catch {
        return null;
      }
    },
    set(key, value) {
      try {
        localStorage.setItem(`portal.${key}`, value);
      } catch {
        // nothing to do
      }
    },
  };

  const theme = remembered.get("theme");
  if (theme === "light" || theme === "dark") {
    root.dataset.theme = theme;
  }

  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  function startTheme() {
    const button = document.getElementById("theme");
    const systemDark = matchMedia("(prefers-color-scheme: dark)");
    const current = () => root.dataset.theme ?? (systemDark.matches ? "dark" : "light");
    const label = () => {
      button.setAttribute("aria-label", `Switch to the ${current() === "dark" ? "light" : "dark"} theme`);
    };
    button.addEventListener("click", () => {
      root.dataset.theme = current() === "dark" ? "light" : "dark";
      remembered.set("theme", root.dataset.theme);
      label();
    });
    systemDark.addEventListener("change", label);
    label();
    button.hidden = false;
  }

  function show(element, state, text, title = "") {
    const line = element.querySelector("[data-text]");
    element.dataset.state = state;
    element.title = title;
    // Written only when it changes, or screen readers would repeat it at each check.
    if (line.textContent !== text) {
      line.textContent = text;
    }
  }

  function details(health) {
    const since = new Date(health.since);
    const when = since.toDateString() === new Date().toDateString() ? since.toLocaleTimeString() : since.toLocaleString();
    return health.ms === null ? `since ${when}` : `since ${when}, answers in ${health.ms} ms`;
  }

  function summarize(states) {
    const count = (state) => states.filter((each) => each === state).length;
    const down = count("unreachable");
    if (states.length === 0 || count("unknown") === states.length) {
      return ["unknown", "Health unknown"];
    }
    if (down > 0) {
      return ["unreachable", `${down} of ${states.length} not reachable`];
    }
    if (count("starting") > 0) {
      return ["starting", `${count("starting")} of ${states.length} starting`];
    }
    if (count("unknown") > 0) {
      return ["unknown", `${count("unknown")} of ${states.length} unknown`];
    }
    return ["healthy", "All services healthy"];
  }

  async function checkHealth() {
    let services = {};
    try {
      const response = await fetch("/health.json", { cache: "no-store", signal: AbortSignal.timeout(10_000) });
      if (response.ok) {
        services = (await response.json()).services;
      }
    } catch {
      // The portal itself does not answer: everything is unknown, until it does again.
    }
    const states = all("[data-service]").map((element) => {
      const health = services[element.dataset.service];
      const state = health && health.state in STATE_TEXT ? health.state : "unknown";
      show(element, state, STATE_TEXT[state], health ? details(health) : "");
      return state;
    });
    show(document.getElementById("overall"), ...summarize(states));
  }

  function startHealth() {
    const check = () => {
      if (!document.hidden) {
        checkHealth();
      }
    };
    check();
    setInterval(check, HEALTH_EVERY_MS);
    document.addEventListener("visibilitychange", check);
  }

  function guessSystem() {
    const platform = navigator.userAgentData?.platform ?? navigator.platform ?? "";
    if (/win/i.test(platform)) {
      return "trust-windows";
    }
    return /mac/i.test(platform) ? "trust-macos" : "trust-linux";
  }

  // The pattern of the ARIA Authoring Practices: one tab stop, arrow keys move and select.
  function startTabs(container) {
    const panels = all(":scope > .panel", container);
    if (panels.length === 0) {
      return;
    }
    const list = document.createElement("div");
    list.className = "tablist";
    list.setAttribute("role", "tablist");
    list.setAttribute("aria-label", container.dataset.tabs);
    const tabs = panels.map((panel) => {
      const tab = document.createElement("button");
      tab.type = "button";
      tab.id = `tab-${panel.id}`;
      tab.textContent = panel.dataset.tab;
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-controls", panel.id);
      panel.setAttribute("role", "tabpanel");
      panel.setAttribute("aria-labelledby", tab.id);
      list.append(tab);
      return tab;
    });
    const key = `tab.${container.dataset.tabs}`;
    const select = (index) => {
      tabs.forEach((tab, each) => {
        tab.setAttribute("aria-selected", String(each === index));
        tab.tabIndex = each === index ? 0 : -1;
        panels[each].hidden = each !== index;
      });
    };
    const choose = (index) => {
      select(index);
      tabs[index].focus();
      remembered.set(key, panels[index].id);
    };
    tabs.forEach((tab, index) => tab.addEventListener("click", () => choose(index)));
    list.addEventListener("keydown", (event) => {
      const now = tabs.indexOf(document.activeElement);
      const next = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: -1 }[event.key];
      if (next !== undefined) {
        event.preventDefault();
        choose((next + tabs.length) % tabs.length);
      }
    });
    container.prepend(list);
    const byId = (id) => panels.findIndex((panel) => panel.id === id);
    const fromAddress = () => byId(location.hash.slice(1));
    const guess = "guessSystem" in container.dataset ? guessSystem() : "";
    select([fromAddress(), byId(remembered.get(key)), byId(guess), 0].find((index) => index >= 0));
    addEventListener("hashchange", () => {
      if (fromAddress() >= 0) {
        select(fromAddress());
        container.scrollIntoView();
      }
    });
  }

  async function copyText(source) {
    const text = source.textContent;
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // No clipboard access (plain http, policy): leave the text selected for the user's own copy.
      getSelection().selectAllChildren(source);
      return false;
    }
  }

  function startCopy() {
    document.addEventListener("click", async (event) => {
      const button = event.target.closest("[data-copy]");
      if (!button) {
        return;
      }
      const done = await copyText(button.closest("figure, dd").querySelector("[data-source]"));
      const line = button.querySelector("span");
      line.textContent = done ? "Copied" : "Selected";
      document.getElementById("announce").textContent = done ? "Copied" : "Selected, copy with the keyboard";
      setTimeout(() => {
        line.textContent = "Copy";
        document.getElementById("announce").textContent = "";
      }, 2000);
    });
  }

  function startProject() {
    const choice = document.getElementById("project");
    choice?.addEventListener("change", () => {
      const project = choice.selectedOptions[0].dataset;
      for (const element of all("[data-value]")) {
        element.textContent = project[element.dataset.value];
      }
    });
    // Browsers keep a form's state over a reload, but not what was made of it.
    choice?.dispatchEvent(new Event("change"));
  }

  document.addEventListener("DOMContentLoaded", () => {
    startTheme();
    all("[data-tabs]").forEach(startTabs);
    startCopy();
    startProject();
    if (document.getElementById("overall")) {
      startHealth();
    }
  });
})();
