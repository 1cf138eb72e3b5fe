// SPDX-License-Identifier: Apache-2.0
// `loads` counts how often this page was loaded, `swaps` how often a module was put in its place while it stayed.
import { text } from "./text.js";

const show = (shown) => (document.querySelector("h1").textContent = shown);
window.swaps = 0;
sessionStorage.loads = Number(sessionStorage.loads ?? 0) + 1;
show(text);

import.meta.hot.accept("./text.js", (changed) => {
    window.swaps += 1;
    show(changed.text);
});
