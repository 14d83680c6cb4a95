/* Numbers for people, in the same units as aegis-stat. */

const GROUPED = new Intl.NumberFormat("en");
const NOTHING = "\u2013";

const count = (value) => GROUPED.format(value);
const countIfAny = (value) => Number.isFinite(value) ? count(value) : NOTHING;

/* Three figures are enough to read at a glance; small rates need one behind the point. */
function rate(value) {
	if (!Number.isFinite(value))
		return NOTHING;
	if (value === 0)
		return "0";
	if (value < 0.05)
		return "<0.1";
	if (value < 9.95)
		return value.toFixed(1);
	return value < 99950 ? count(Math.round(value)) : `${scaled(value, 1000)}`;
}

function scaled(value, step, names = ["", " k", " M", " G", " T"]) {
	let power = 0;
	while (power + 1 < names.length && value >= step ** (power + 1) * 0.9995)
		power++;
	const in_unit = value / step ** power;
	return (power === 0 ? Math.round(in_unit) : in_unit.toFixed(in_unit < 99.95 ? 1 : 0)) + names[power];
}

const bytes = (value) => Number.isFinite(value) ? scaled(value, 1000, [" B", " kB", " MB", " GB", " TB", " PB"]) : NOTHING;
const bytesRate = (value) => Number.isFinite(value) ? `${bytes(value)}/s` : NOTHING;

/* Below so many milliseconds; how many of the unit a millisecond is; the unit. */
const DURATIONS = [
	[1, 1000, "\u00b5s"], [1000, 1, "ms"], [60000, 1 / 1000, "s"], [3600000, 1 / 60000, "min"], [86400000, 1 / 3600000, "h"], [Infinity, 1 / 86400000, "d"],
];

function milliseconds(ms) {
	if (!Number.isFinite(ms))
		return NOTHING;
	if (ms === 0)
		return "0";
	for (const [limit, factor, name] of DURATIONS)
		if (ms < limit * 0.9995) {
			const value = ms * factor;
			return `${value < 9.95 ? value.toFixed(1) : Math.round(value)} ${name}`;
		}
	return NOTHING;
}

function seconds(value) {
	if (value === null || value === undefined)
		return NOTHING;
	return value < 1 ? "<1 s" : milliseconds(value * 1000).replace(/\.0 /, " ");
}

/* The two largest units: "3 d 4 h", "12 min 5 s". */
function uptime(value) {
	const whole_part = (length, most) => Math.floor(value / length) % most;
	const parts = [[whole_part(86400, Infinity), "d"], [whole_part(3600, 24), "h"], [whole_part(60, 60), "min"], [whole_part(1, 60), "s"]];
	const first = Math.max(0, parts.findIndex(([number]) => number > 0));
	if (value < 1)
		return "0 s";
	return parts.slice(first, first + 2).filter(([number]) => number > 0).map(([number, name]) => `${number} ${name}`).join(" ");
}

function two(number) {
	return String(number).padStart(2, "0");
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/* Local time; with the day, and without the seconds, where it was not today. */
function clock(unix_ms) {
	const date = new Date(unix_ms);
	if (Number.isNaN(date.getTime()))
		return NOTHING;
	const time = `${two(date.getHours())}:${two(date.getMinutes())}`;
	if (date.toDateString() === new Date().toDateString())
		return `${time}:${two(date.getSeconds())}`;
	return `${two(date.getDate())} ${MONTHS[date.getMonth()]} ${time}`;
}

/* "3 Jan 2027", in local time. */
function day(unix) {
	const date = new Date(unix * 1000);
	return Number.isNaN(date.getTime()) ? NOTHING : `${date.getDate()} ${MONTHS[date.getMonth()]} ${date.getFullYear()}`;
}

const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
