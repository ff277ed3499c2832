// A part of the deck is one section of the chapter, as one long slide. Here it is cut into pages that fit the screen,
// after the formulas are set: only the browser knows how high things are.

const WIDTH = 1180, HEIGHT = 600;
const ENLARGED = 1.5; // figures are drawn for pages of 700 pixels
const SMALLEST = 0.7; // beyond that, code scrolls
const LEAST = 0.6; // a figure smaller than this part of its size goes to the next page

function page(part) {
  const section = document.createElement("section");
  section.className = "page";
  section.innerHTML = `<header><span>${document.title}</span><span></span></header><div class="content"></div>`;
  if (part.previousElementSibling) section.querySelector("span + span").textContent = part.dataset.title;
  part.append(section);
  return section.querySelector(".content");
}

const excess = (content) => content.scrollHeight - HEIGHT;

function tooLarge(block) {
  const widths = [block, ...block.querySelectorAll("table, mjx-container, svg")].map((part) => part.getBoundingClientRect().width);
  const clipped = [...block.querySelectorAll("pre")].some((pre) => pre.scrollWidth > pre.clientWidth);
  return clipped || Math.max(...widths) > WIDTH || block.getBoundingClientRect().height > HEIGHT;
}

// Formulas, tables and lines of code that are too large for a page are made smaller, but not too small to read.
// Step by step, as letters come in whole pixels: a formula zoomed by a hundredth is no narrower.
function shrink(block) {
  for (let zoom = 0.98; zoom >= SMALLEST && tooLarge(block); zoom -= 0.02) block.style.zoom = zoom;
  const code = block.querySelector("pre");
  if (code && block.getBoundingClientRect().height > HEIGHT) code.style.maxHeight = `${HEIGHT / SMALLEST - 30}px`;
}

// The size of a figure that may be so high; its height in the end.
function resize(image, height) {
  const { width: w, height: h } = image.dataset;
  const scale = Math.min(ENLARGED, WIDTH / w, height / h);
  [image.width, image.height] = [w * scale, h * scale];
  return image.height;
}

// Makes the figure that ends a page, but for one block, so small that all fits; says whether that was possible.
function squeeze(content, image) {
  const before = image.height, full = resize(image, HEIGHT);
  if (resize(image, full - excess(content)) >= LEAST * full && excess(content) <= 0) return true;
  resize(image, before);
  return false;
}

// What must not be parted from what follows: headings, and text that leads up to a formula or a list.
const isHeading = (block) => /^H\d$/.test(block.tagName);
const leads = (block) => isHeading(block) || (block.tagName === "P" && !/[.?!)”"]$/.test(block.textContent.trim()));

// A question to the audience ends its page: the answer comes with the next.
const asks = (block) => block.tagName === "P" && /^Predict\b/.test(block.querySelector("em:last-child")?.textContent);

// Puts a block on a page, or on the next if there is no room; returns the page that is current then.
function place(block, content, part) {
  const before = content.lastElementChild;
  content.append(block);
  const image = block.querySelector(":scope > img");
  if (image) resize(image, HEIGHT);
  else shrink(block);
  if (excess(content) <= 0 || !before) return content;
  const above = image ?? before.querySelector(":scope > img");
  if (above && squeeze(content, above)) return content;
  const moved = [block];
  for (let lead = before; lead && leads(lead); lead = lead.previousElementSibling) moved.unshift(lead);
  const next = moved.length < content.childElementCount ? moved : [block]; // headings alone may fill a page
  return next.reduce((current, each) => place(each, current, part), page(part));
}

function paginate(part) {
  const blocks = [...part.children];
  let content = page(part);
  for (const block of blocks) {
    const last = content.lastElementChild;
    if (last && (asks(last) || (block.tagName === "H3" && !isHeading(last)))) content = page(part);
    content = place(block, content, part);
  }
}

MathJax.startup.promise
  .then(() => MathJax.typesetPromise())
  .then(() => {
    document.querySelectorAll(".slides > section").forEach(paginate);
    document.body.classList.add("laid");
    return Reveal.initialize({
      width: 1280, height: 720, margin: 0, center: false, hash: true, transition: "none", slideNumber: "c/t",
      controlsTutorial: false,
    });
  });
