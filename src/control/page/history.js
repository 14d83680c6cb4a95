/* What the answers of /status say together: rates between two of them, percentiles of the last seconds, and the past for the charts.
 * The instance's own clock (its uptime) counts, so that a slow network or a sleeping tab bends no rate.
 */

const HISTORY_MOST = 4000; /* an hour at one a second, and some */
const RECENT_SECONDS = 10;
const SPARK_MOST = 60;
const SPARK_ROWS_MOST = 2000;

class History {
	constructor() {
		this.forget();
	}

	/* Another instance, or none before: nothing can be compared. */
	forget() {
		this.times = [];
		this.walls = [];
		this.series = {};
		this.before = null;
		this.recent = []; /* the last answers, to compare with: see since() */
		this.sparks = new Map();
		this.rates = new Map();
	}

	get last() {
		return this.times.length - 1;
	}

	/* Take one answer. Returns false when it belongs to another life of the instance. */
	take(status) {
		const now = status.uptime_seconds;
		const before = this.before;
		const same = before !== null && before.pid === status.pid && now >= before.uptime_seconds;
		if (before !== null && !same)
			this.forget();
		const elapsed = same ? now - before.uptime_seconds : 0;
		if (same && elapsed <= 0)
			return true;
		this.#rows(status, elapsed);
		this.recent.push(digest(status));
		while (this.recent.length > 2 && this.recent[1].at <= now - RECENT_SECONDS)
			this.recent.shift();
		this.#add(now, this.#figures(status, same ? before : null, elapsed));
		this.before = status;
		return before === null || same;
	}

	#figures(status, before, elapsed) {
		const per_second = (get) => before === null ? NaN : Math.max(0, get(status) - get(before)) / elapsed;
		const figures = {
			active: status.connections.active,
			opened: per_second((of) => of.connections.total),
			errors: per_second((of) => of.connections.errors),
			rejected: per_second((of) => of.connections.rejected),
			received: per_second((of) => of.bytes.received),
			sent: per_second((of) => of.bytes.sent),
			waiting: sum(status.upstreams, (upstream) => upstream.waiting),
			lag: Math.max(0, ...status.workers.map((worker) => worker.loop_lag_ms)),
		};
		for (const kind of ["connect", "first_byte", "connection"]) {
			const times = this.#times(kind);
			for (const [name, fraction] of [["p50", 0.5], ["p95", 0.95], ["p99", 0.99]])
				figures[`${kind}_${name}`] = quantile(times, fraction);
		}
		return figures;
	}

	#add(now, figures) {
		this.times.push(now);
		this.walls.push(Date.now());
		for (const name in figures)
			(this.series[name] ??= []).push(figures[name]);
		if (this.times.length > HISTORY_MOST)
			for (const column of [this.times, this.walls, ...Object.values(this.series)])
				column.splice(0, column.length - HISTORY_MOST + 200);
	}

	/* How much a figure of digest() grew within the last seconds; 0 where there is nothing to compare with. */
	since(name) {
		const first = this.recent[0], last = this.recent[this.recent.length - 1];
		return first === undefined || first === last ? 0 : Math.max(0, (last.counts[name] ?? 0) - (first.counts[name] ?? 0));
	}

	get recentSeconds() {
		return this.recent.length < 2 ? 0 : this.recent[this.recent.length - 1].at - this.recent[0].at;
	}

	/* [milliseconds, count] of what took its time within the last seconds. */
	#times(kind) {
		const first = this.recent[0].times[kind], last = this.recent[this.recent.length - 1].times[kind];
		if (first === last)
			return [];
		const before = new Map(first);
		return last.map(([ms, n]) => [ms, n - (before.get(ms) ?? 0)]).filter(([, n]) => n > 0);
	}

	/* The rates of each server, listener and worker; from one answer to the next. */
	#rows(status, elapsed) {
		const old = this.rates;
		const servers = sum(status.upstreams, (upstream) => upstream.servers.length);
		this.rates = new Map();
		for (const [key, figures] of rows(status)) {
			const before = elapsed > 0 ? old.get(key)?.figures : undefined;
			const per_second = {};
			for (const name in figures)
				per_second[name] = before === undefined ? NaN : Math.max(0, figures[name] - before[name]) / elapsed;
			this.rates.set(key, { figures, per_second });
			if (servers <= SPARK_ROWS_MOST)
				this.#spark(key, per_second.total);
		}
		for (const key of this.sparks.keys())
			if (!this.rates.has(key))
				this.sparks.delete(key);
	}

	#spark(key, value) {
		const line = this.sparks.get(key) ?? [];
		if (Number.isFinite(value))
			line.push(value);
		if (line.length > SPARK_MOST)
			line.shift();
		this.sparks.set(key, line);
	}

	rate(key, name) {
		return this.rates.get(key)?.per_second[name] ?? NaN;
	}
}

const serverKey = (upstream, server) => `server ${upstream.name}\n${server.name}`;
const listenerKey = (listener) => `listener ${listener.name}`;
const workerKey = (worker) => `worker ${worker.pid}`;

const isUdp = (listener) => listener.protocol === "udp";
const drops = (listener) => isUdp(listener) ? sum(Object.values(listener.drops), (number) => number) : NaN;
const received = (listener) => isUdp(listener) ? listener.datagrams.from_client + listener.datagrams.from_server : NaN;

const pick = (row, ...names) => Object.fromEntries(names.map((name) => [name, row[name]]));

function* rows(status) {
	for (const upstream of status.upstreams)
		for (const server of upstream.servers)
			yield [serverKey(upstream, server), pick(server, "total", "failures", "sent", "received")];
	for (const listener of status.listeners)
		yield [listenerKey(listener), { ...pick(listener, "total", "errors", "rejected", "sent", "received"), datagrams: received(listener),
			drops: drops(listener) }];
	for (const worker of status.workers)
		yield [workerKey(worker), { total: worker.accepts }];
}

/* What of an answer is kept for a few seconds. */
function digest(status) {
	const counts = {
		errors: status.connections.errors,
		rejected: status.connections.rejected,
		accept_pauses: sum(status.workers, (worker) => worker.accept_pauses),
		buffer_exhausted: sum(status.workers, (worker) => worker.buffer_exhausted),
		log_dropped: sum(status.workers, (worker) => worker.log_dropped),
	};
	for (const listener of status.listeners)
		for (const reason in listener.closes)
			counts[`ended ${reason}`] = (counts[`ended ${reason}`] ?? 0) + listener.closes[reason];
	for (const reason in status.udp.drops)
		counts[`dropped ${reason}`] = status.udp.drops[reason];
	const times = {};
	for (const kind of ["connect", "first_byte", "connection"])
		times[kind] = status.latency[kind].buckets ?? [];
	return { at: status.uptime_seconds, counts, times };
}

function sum(list, of) {
	let total = 0;
	for (const item of list)
		total += of(item);
	return total;
}

/* The value that a fraction of them does not exceed, of [value, count] by value; NaN where there are none. */
function quantile(times, fraction) {
	const all = sum(times, ([, n]) => n);
	let seen = 0;
	for (const [ms, n] of times) {
		seen += n;
		if (seen >= fraction * all)
			return ms;
	}
	return NaN;
}
