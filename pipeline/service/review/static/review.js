// Keys, the filter of choices, and what is said when nothing was saved. htmx sends the forms.
"use strict";

const problem = document.getElementById("problem");
let underWay = false;

function visibleChoices() {
  return [...document.querySelectorAll("button.choice")].filter((button) => !button.hidden);
}

function narrow(words) {
  const wanted = words.trim().toLowerCase();
  for (const button of document.querySelectorAll("button.choice")) {
    button.hidden = !button.querySelector("bdi").textContent.toLowerCase().includes(wanted);
    button.querySelector("kbd").textContent = "";
    button.removeAttribute("aria-keyshortcuts");
    delete button.dataset.key;
  }
  visibleChoices().slice(0, 9).forEach((button, at) => {
    button.querySelector("kbd").textContent = at + 1;
    button.setAttribute("aria-keyshortcuts", at + 1);
    button.dataset.key = at + 1;
  });
}

function press(button) {
  if (button && !button.disabled && !underWay) button.click();
}

document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const filter = document.getElementById("filter");
  if (filter && event.target === filter) {
    if (event.key === "Enter") {
      event.preventDefault();
      press(visibleChoices()[0]);
    } else if (event.key === "Escape") {
      filter.value = "";
      narrow("");
      filter.blur();
    }
    return;
  }
  if (event.key === "/" && filter) {
    event.preventDefault();
    filter.focus();
  } else {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const button = document.querySelector(`button[data-key~="${CSS.escape(key)}"]`);
    if (button) event.preventDefault(); // arrows would scroll
    press(button);
  }
});

document.addEventListener("input", (event) => {
  if (event.target.id === "filter") narrow(event.target.value);
});

document.addEventListener("htmx:beforeRequest", () => {
  underWay = true;
});
document.addEventListener("htmx:afterRequest", (event) => {
  underWay = false;
  if (event.detail.successful) problem.textContent = "";
});
// after what was swapped in is there: who listens hears the next row
document.addEventListener("htmx:afterSettle", () => {
  document.getElementById("row").focus({ preventScroll: false });
});
document.addEventListener("htmx:responseError", (event) => {
  problem.textContent = event.detail.xhr.responseText || "Not saved.";
});
document.addEventListener("htmx:sendError", () => {
  problem.textContent =
    "Not saved: rackmill has ended here. Start it again and open the address that it prints.";
});
