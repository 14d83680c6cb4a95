-- What wrk measured, as one line of JSON; times in microseconds.
function done(summary, latency, requests)
	local errors = summary.errors
	io.write(string.format(
		'{"requests":%d,"errors":%d,"connect_errors":%d,"seconds":%.6f,"bytes_in":%d,"p50":%.1f,"p99":%.1f,"p999":%.1f,"mean":%.2f}\n',
		summary.requests, errors.read + errors.write + errors.status + errors.timeout, errors.connect, summary.duration / 1e6,
		summary.bytes, latency:percentile(50), latency:percentile(99), latency:percentile(99.9), latency.mean))
end
