/* When the certificates of listeners expire: those that do soonest first. */

const DAY_SECONDS = 86400;
const CERTIFICATE_WARN_DAYS = 14;

const certificateLeft = (certificate) => certificate.not_after_unix - Date.now() / 1000;
const isEarly = (certificate) => certificate.not_before_unix > Date.now() / 1000;

function certificateLevel(certificate) {
	const left = certificateLeft(certificate);
	if (left <= 0)
		return "bad";
	return left < CERTIFICATE_WARN_DAYS * DAY_SECONDS || isEarly(certificate) ? "warn" : "";
}

function certificateText(certificate) {
	const left = certificateLeft(certificate);
	if (left <= 0)
		return `expired ${seconds(-left)} ago`;
	return isEarly(certificate) ? `not valid before ${day(certificate.not_before_unix)}` : `expires in ${seconds(left)}`;
}

function makeCertificates(history, section) {
	const table = new Table({
		caption: "Certificates",
		empty: "There are no certificates.",
		key: (row) => `${row.listener}/${row.name}`,
		columns: [
			textColumn("Name", (row) => row.name),
			textColumn("Listener", (row) => row.listener),
			numberColumn("Valid until", (row) => row.not_after_unix, day),
			numberColumn("Left", certificateLeft, (left) => left <= 0 ? "expired" : seconds(left), { level: certificateLevel }),
		],
	});
	section.append(table.element);
	return (status) => {
		const none = status.certificates.length === 0;
		section.hidden = none;
		$("to-certificates").hidden = none;
		table.update([...status.certificates].sort((a, b) => a.not_after_unix - b.not_after_unix));
	};
}
