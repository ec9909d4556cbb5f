// What the eye would see at once: each function takes an element and gives the parts of it that fail, as HTML.

const parts = (element, fails) =>
  [...element.querySelectorAll("*")].filter((e) => e.checkVisibility() && fails(e)).map((e) => e.outerHTML.slice(0, 150));

// Parts that stick out of the place the element has on the page, or that do not show all that they hold.
function clipped(element) {
  const place = element.parentElement.getBoundingClientRect();
  return parts(element, (e) => {
    const { left, right } = e.getBoundingClientRect();
    const cut = getComputedStyle(e).overflowX !== "visible" && e.scrollWidth > e.clientWidth + 1;
    return cut || left < place.left - 1 || right > place.right + 1;
  });
}

// Text that has less than the contrast of 4.5 that WCAG 2.2 asks for; a button that is off may have less.
function pale(element) {
  const rgb = (colour) => colour.match(/[\d.]+/g).map(Number);
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const luminance = (colour) => {
    const [red, green, blue] = rgb(colour).map((v) => linear(v / 255));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = (e) => {
    const colour = getComputedStyle(e).backgroundColor;
    return rgb(colour)[3] === 0 ? behind(e.parentElement) : colour;
  };
  const says = (e) => e.value || [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim());
  return parts(element, (e) => {
    if (e.disabled || !says(e)) return false;
    const [dark, light] = [getComputedStyle(e).color, behind(e)].map(luminance).sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05) < 4.5;
  });
}

// The text of an element without its ruby: a poem without the marks of its tones.
function unmarked(element) {
  const own = element.cloneNode(true);
  own.querySelectorAll("rt").forEach((mark) => mark.remove());
  return own.textContent;
}
