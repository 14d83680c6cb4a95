/* What happened: what two answers of /status differ in, and what the first one tells of the time before. */

const EVENTS_MOST = 200;
const BURST_SECONDS = 30;

class Events {
	constructor(list, announce) {
		this.list = list;
		this.announce = announce;
		this.bursts = new Map(); /* reason -> when it was seen last */
		this.before = null;
	}

	/* level: good, warn, bad or idle. */
	add(level, text, unix_ms = Date.now()) {
		const icon = { good: "up", warn: "warn", bad: "down", idle: "note" }[level];
		const time = make("time", "", clock(unix_ms));
		time.dateTime = new Date(unix_ms).toISOString();
		const item = make("li", "", time, makeIcon(icon, level), make("span", "", text));
		item.at = unix_ms;
		let next = this.list.firstElementChild;
		while (next !== null && next.at > unix_ms)
			next = next.nextElementSibling;
		this.list.insertBefore(item, next);
		while (this.list.children.length > EVENTS_MOST)
			this.list.lastElementChild.remove();
		if (level === "bad")
			say(this.announce, text);
	}

	take(status) {
		const before = this.before;
		this.before = status;
		if (before === null) {
			this.#tellPast(status);
		} else if (before.pid !== status.pid || status.uptime_seconds < before.uptime_seconds) {
			this.add("warn", `Aegis was started anew (pid ${status.pid}); the charts begin again`);
		} else {
			this.#compareInstance(before, status);
			this.#compareServers(before, status);
			this.#compareEnds(before, status);
		}
	}

	#tellPast(status) {
		const now = Date.now();
		this.add("idle", `Aegis ${status.version} started (pid ${status.pid})`, now - status.uptime_seconds * 1000);
		if (status.reloads.last_unix > 0)
			this.#tellReload(status, status.reloads.last_unix * 1000);
		for (const [upstream, server] of eachServer(status)) {
			const ago = server.health.changed_seconds_ago, isDown = server.health.state === "down";
			if (ago !== null && ago < status.uptime_seconds && (isDown || ago < 3600))
				this.add(isDown ? "bad" : "good", `${upstream.name}/${server.name} went ${server.health.state}`, now - ago * 1000);
		}
	}

	#tellReload(status, unix_ms) {
		const { last_ok, last_note } = status.reloads;
		const note = last_note ? `: ${last_note}` : "";
		if (last_ok)
			this.add("good", `Reload done, generation ${status.generation}${note}`, unix_ms);
		else
			this.add("bad", `Reload failed, the settings before stay${note}`, unix_ms);
	}

	#compareInstance(before, status) {
		const grew = (of) => of(status) - of(before);
		if (status.state !== before.state && status.state !== "reloading" && before.state !== "reloading")
			this.add(status.state === "running" ? "good" : "warn", `Aegis is ${status.state} (was ${before.state})`);
		if (grew((of) => of.reloads.ok) > 0 || grew((of) => of.reloads.failed) > 0)
			this.#tellReload(status, Date.now());
		const workers = grew((of) => of.worker_restarts), controls = grew((of) => of.control_restarts);
		if (workers > 0)
			this.add("bad", `${plural(workers, "worker")} died and ${workers === 1 ? "was" : "were"} replaced`);
		if (controls > 0)
			this.add("warn", `The control process was replaced`);
		const generations = (of) => new Set(of.workers.map((worker) => worker.generation));
		for (const generation of generations(before))
			if (!generations(status).has(generation))
				this.add("idle", `The last worker of generation ${generation} has ended`);
		const dropped = grew((of) => sum(of.workers, (worker) => worker.log_dropped));
		if (dropped > 0)
			this.add("warn", `${plural(dropped, "log line")} dropped`);
	}

	#compareServers(before, status) {
		const old = new Map([...eachServer(before)].map(([upstream, server]) => [serverKey(upstream, server), server]));
		for (const [upstream, server] of eachServer(status)) {
			const was = old.get(serverKey(upstream, server)), name = `${upstream.name}/${server.name}`;
			old.delete(serverKey(upstream, server));
			if (was === undefined)
				this.add("idle", `${name} is new`);
			else
				this.#compareServer(name, was, server);
		}
		for (const key of old.keys())
			this.add("idle", `${key.slice("server ".length).replace("\n", "/")} is gone from the settings`);
	}

	#compareServer(name, was, server) {
		if (server.state !== was.state) {
			const level = isTrouble(server) ? "bad" : server.usable && !was.usable ? "good" : "idle";
			const reason = server.state === "down" ? `: ${checkText(server)}` : "";
			const before = was.state === "unknown" ? stateText(was) : was.state;
			const is = /breaker|slow/.test(server.state) ? ":" : " is";
			this.add(level, `${name}${is} ${stateText(server)}${reason} (was ${before})`);
		}
		if (server.override !== was.override)
			this.add("idle", `${name}: ${server.override === "none" ? "what the operator set was taken back" : `set to ${server.override} by the operator`}`);
		if (server.weight !== was.weight)
			this.add("idle", `${name}: weight ${server.weight} (was ${was.weight})`);
		/* Open and closed again between two answers. */
		if (server.breaker.trips > was.breaker.trips && server.state === was.state)
			this.add("warn", `${name}: its breaker opened`);
	}

	/* The first of a kind after a while; the rate is in the charts. */
	#compareEnds(before, status) {
		const old = digest(before).counts, counts = digest(status).counts;
		for (const name in counts) {
			const reason = name.startsWith("ended ") ? name.slice("ended ".length) : "";
			const more = counts[name] - (old[name] ?? 0), kind = REASONS[reason]?.[0];
			if (more <= 0 || (kind !== "ERROR" && kind !== "REJECTED"))
				continue;
			const seen = this.bursts.get(reason) ?? -Infinity;
			if (status.uptime_seconds - seen > BURST_SECONDS)
				this.add("warn", `${plural(more, "connection")} ended for ${reason}: ${REASONS[reason][1]}`);
			this.bursts.set(reason, status.uptime_seconds);
		}
	}
}

function* eachServer(status) {
	for (const upstream of status.upstreams)
		for (const server of upstream.servers)
			yield [upstream, server];
}
