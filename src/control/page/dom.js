/* The document: all that comes from the instance passes through here, and only ever as text. */

const $ = (id) => document.getElementById(id);

/* make("td", "number", "12") or make("tr", "", child, child...); a child that is a string becomes text. */
function make(tag, style, ...children) {
	const node = document.createElement(tag);
	if (style)
		node.className = style;
	node.append(...children);
	return node;
}

function makeSvg(tag, attributes, ...children) {
	const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
	for (const name in attributes)
		node.setAttribute(name, attributes[name]);
	node.append(...children);
	return node;
}

/* Set only what differs: most figures stay as they are from one second to the next, and a selection or a screen reader is left alone. */
function say(node, text) {
	if (node.textContent !== text)
		node.textContent = text;
}

function attribute(node, name, value) {
	if (node.getAttribute(name) !== value)
		node.setAttribute(name, value);
}

function style(node, names) {
	if ((node.getAttribute("class") ?? "") !== names)
		node.setAttribute("class", names);
}

/* Put children in this order, moving as few as possible; what is not among them goes. */
function arrange(parent, children) {
	const wanted = new Set(children);
	for (const child of [...parent.children])
		if (!wanted.has(child))
			child.remove();
	let at = parent.firstElementChild;
	for (const child of children) {
		if (child === at)
			at = at.nextElementSibling;
		else
			parent.insertBefore(child, at);
	}
}

function makeButton(text, onClick, names = "") {
	const button = make("button", names, text);
	button.type = "button";
	button.addEventListener("click", onClick);
	return button;
}

/* Shapes that differ without their colour. The letter before says how: f = filled, s = stroked. */
const ICONS = {
	up: ["f M6 1a5 5 0 1 0 0 10A5 5 0 0 0 6 1z"],
	rising: ["s M6 1.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 0 0 0-9z", "f M6 1.5v9a4.5 4.5 0 0 0 0-9z"],
	unknown: ["s M6 1.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 0 0 0-9z"],
	down: ["s M2.5 2.5l7 7M9.5 2.5l-7 7"],
	warn: ["s M6 1.5L11 10.5H1z", "s M6 5v2.5M6 9.1v.1"],
	out: ["s M1.5 6h9"],
	draining: ["s M6 1.5v8.5M2.5 6.5L6 10l3.5-3.5"],
	disabled: ["s M6 1.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 0 0 0-9z", "s M3 9l6-6"],
	calm: ["s M1.5 6.5l3 3 6-7"],
	note: ["f M6 4a2 2 0 1 0 0 4a2 2 0 0 0 0-4z"],
};

function setIcon(svg, name, level) {
	if (svg.dataset.icon !== name) {
		svg.dataset.icon = name;
		const path = (shape) => makeSvg("path", { d: shape.slice(2), class: shape[0] === "f" ? "full" : "" });
		svg.replaceChildren(...ICONS[name].map(path));
	}
	style(svg, `icon ${level}`);
	return svg;
}

function makeIcon(name, level) {
	return setIcon(makeSvg("svg", { viewBox: "0 0 12 12", "aria-hidden": "true" }), name, level);
}

/* Remembered in this browser where it lets us; the token never is. */
function recall(key, otherwise) {
	try {
		return localStorage.getItem(`aegis-${key}`) ?? otherwise;
	} catch {
		return otherwise;
	}
}

function remember(key, value) {
	try {
		localStorage.setItem(`aegis-${key}`, value);
	} catch {
		/* private browsing: it lasts as long as the page */
	}
}
