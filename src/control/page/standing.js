/* How a server stands, in words and shapes. */

const STANDING = {
	"unknown": ["unknown", "idle"],
	"up": ["up", "good"],
	"slow start": ["rising", "warn"],
	"breaker half-open": ["rising", "warn"],
	"breaker open": ["warn", "bad"],
	"ejected": ["out", "bad"],
	"down": ["down", "bad"],
	"draining": ["draining", "idle"],
	"disabled": ["disabled", "idle"],
};

/* What someone wants is no trouble. */
const isWanted = (server) => server.state === "draining" || server.state === "disabled" || server.disabled || server.weight === 0;
const isTrouble = (server) => !server.usable && !isWanted(server);

function stateText(server) {
	if (server.state === "ejected" && server.ejected_for_seconds !== null)
		return `ejected, ${seconds(server.ejected_for_seconds)} left`;
	if (server.state === "slow start" && server.weight > 0)
		return `slow start ${Math.round(100 * server.weight_now / server.weight)} %`;
	if (server.state === "unknown")
		return server.health.checked ? "not checked yet" : "not checked";
	return server.state;
}

function drawState(cell, server) {
	const [icon, level] = STANDING[server.state] ?? ["unknown", "idle"];
	const box = part(cell, "state", "state");
	if (box.firstElementChild === null)
		box.append(makeSvg("svg", { viewBox: "0 0 12 12", "aria-hidden": "true" }), make("span", ""));
	setIcon(box.firstElementChild, icon, level);
	style(box, `state ${level}`);
	say(box.lastElementChild, stateText(server));
	optional(part(cell, "override", "tag"), server.override === "none" ? "" : `operator: ${server.override}`);
}

const hasCheck = (server) => server.health.checked_seconds_ago !== null;

/* "status 503, 1.2 ms, 3 s ago" */
function checkText(server) {
	const health = server.health;
	if (!hasCheck(server))
		return health.checked ? "not yet" : "";
	return health.why === "" ? health.result : `${health.result} (${health.why})`;
}

function why(server) {
	const health = server.health;
	if (server.state === "down") {
		const since = health.changed_seconds_ago === null ? "" : ` for ${seconds(health.changed_seconds_ago)}`;
		return `down${since}${hasCheck(server) ? `: ${checkText(server)}` : ""}`;
	}
	return stateText(server);
}
