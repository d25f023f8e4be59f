"use strict";
// A key presses the button that names it. One press is one vote: none by holding a key, none while a vote is on its way.
let sent = false;
history.scrollRestoration = "manual"; // the next pair begins at its top
addEventListener("pageshow", () => { sent = false; });
addEventListener("submit", event => {
  if (sent) event.preventDefault();
  sent = true;
});
addEventListener("keydown", event => {
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
  const key = event.key.toLowerCase();
  const button = [...document.querySelectorAll("button[name=key]")].find(button => button.value === key);
  if (button) button.click();
});
