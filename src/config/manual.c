#include <string.h>

#include "base/text.h"
#include "config/options.h"
#include "config/value.h"

enum { MANUAL_COLUMNS = 78, VALUE_SIZE = 512 };

static const char head[] = ".Dd November 21, 2026\n"
                           ".Dt AEGIS.CONF 5\n"
                           ".Os\n"
                           ".Sh NAME\n"
                           ".Nm aegis.conf\n"
                           ".Nd settings of the Aegis proxy\n"
                           ".Sh DESCRIPTION\n"
                           ".Xr aegis 8\n"
                           "reads its settings from one file,\n"
                           ".Pa aegis.conf\n"
                           "unless the option\n"
                           ".Fl c\n"
                           "names another.\n"
                           "The file says where clients connect to\n"
                           ".Pq Ic listeners ,\n"
                           "which servers do the work\n"
                           ".Pq Ic upstreams ,\n"
                           "and how Aegis runs.\n"
                           "Everything has a default except the addresses.\n"
                           ".Pp\n"
                           ".Ic aegis Fl t\n"
                           "checks a file and lists all that is wrong in it, each with file, line, setting\n"
                           "and what would be right.\n"
                           ".Ic aegis Fl T\n"
                           "prints the settings as they take effect, each with where it came from; what has\n"
                           "no effect is left out.\n"
                           "Aegis never runs with a setting that it does not know or understand: a file\n"
                           "with an error is refused as a whole, and at a reload the running settings stay.\n"
                           ".Ss Syntax\n"
                           "The file is written in the language of libconfig.\n"
                           "A setting is\n"
                           ".Ql NAME = VALUE;\\&\n"
                           "and a value is one of\n"
                           ".Bl -tag -width \"xx( ... )xx\" -compact\n"
                           ".It Ql \\(dqtext\\(dq\n"
                           "text between double quotes, on one line;\n"
                           ".Ql \\e\\(dq\n"
                           "is a quote in it and\n"
                           ".Ql \\e\\e\n"
                           "a backslash,\n"
                           ".Ql \\er ,\n"
                           ".Ql \\en\n"
                           "and\n"
                           ".Ql \\exHH\n"
                           "are bytes that cannot be seen, where those may be\n"
                           ".It Ql 123\n"
                           "a number, without quotes\n"
                           ".It Ql true\n"
                           "a switch:\n"
                           ".Ql true\n"
                           "or\n"
                           ".Ql false\n"
                           ".It Ql { ... }\n"
                           "a group of settings\n"
                           ".It Ql \\&( ... \\&)\n"
                           "a list of groups, separated by commas\n"
                           ".It Ql [ ... ]\n"
                           "a list of texts, separated by commas\n"
                           ".El\n"
                           ".Pp\n"
                           "Comments are\n"
                           ".Ql # ...\n"
                           "and\n"
                           ".Ql // ...\n"
                           "to the end of the line, and\n"
                           ".Ql /* ... */ .\n"
                           "No setting may stand twice in a group.\n"
                           ".Ss Units\n"
                           "Durations are text with a unit:\n"
                           ".Ql ns ,\n"
                           ".Ql us ,\n"
                           ".Ql ms ,\n"
                           ".Ql s ,\n"
                           ".Ql m ,\n"
                           ".Ql h\n"
                           "or\n"
                           ".Ql d ,\n"
                           "for example\n"
                           ".Ql \\(dq500ms\\(dq .\n"
                           "Sizes are text too, in bytes or with\n"
                           ".Ql k ,\n"
                           ".Ql M ,\n"
                           ".Ql G\n"
                           "or\n"
                           ".Ql T\n"
                           "for powers of 1024, for example\n"
                           ".Ql \\(dq64k\\(dq .\n"
                           "Rates are sizes or numbers a second, for example\n"
                           ".Ql \\(dq10M/s\\(dq\n"
                           "or\n"
                           ".Ql \\(dq100/s\\(dq .\n"
                           "Numbers are whole, without a sign.\n"
                           ".Ss Addresses\n"
                           ".Bl -tag -width \"xxdb.example.org:80xx\" -compact\n"
                           ".It Ql 10.0.0.5:80\n"
                           "an IPv4 address and a port\n"
                           ".It Ql [2001:db8::5]:80\n"
                           "an IPv6 address and a port;\n"
                           ".Ql [fe80::1%eth0]:80\n"
                           "on one network interface\n"
                           ".It Ql :80\n"
                           "or\n"
                           ".Ql *:80 :\n"
                           "all addresses of the host, IPv4 and IPv6 (listeners only)\n"
                           ".It Ql db.example.org:80\n"
                           "a host name and a port (servers only); all its addresses are used, at most 8\n"
                           ".It Ql unix:/path\n"
                           "a unix socket;\n"
                           ".Ql unix:@name\n"
                           "one in the abstract namespace of Linux\n"
                           ".It Ql fd:3\n"
                           "a socket that Aegis inherits under this number (listeners only)\n"
                           ".It Ql systemd:web\n"
                           "a socket that systemd passes under this\n"
                           ".Va FileDescriptorName\n"
                           "(listeners only)\n"
                           ".El\n"
                           ".Pp\n"
                           "Port 0 lets the kernel choose one (listeners only).\n"
                           ".Ss Includes\n"
                           "A line\n"
                           ".Ql @include \\(dqFILE\\(dq\n"
                           "puts another file in its place.\n"
                           "A relative path starts from the folder of the file that includes it.\n"
                           "Includes may be nested ten deep; a file that includes itself is an error.\n"
                           "All files together may hold 16 MB.\n"
                           ".Ss Overrides\n"
                           "The option\n"
                           ".Fl e Ar text\n"
                           "of\n"
                           ".Xr aegis 8\n"
                           "adds settings in the same language:\n"
                           ".Dl aegis -e 'workers = 2;' -e 'log = { level = \\(dqdebug\\(dq; };'\n"
                           "A group is merged into the one in the file, setting by setting; anything else,\n"
                           "a list as well, takes the place of what the file says.\n"
                           "Later ones win.\n"
                           ".Ss Reload\n"
                           "At a reload, new workers start with the new settings and take over all new\n"
                           "connections, while the old ones finish what they have (see\n"
                           ".Ic drain ) .\n"
                           "Below each setting stands when a change takes effect:\n"
                           ".Em at once ,\n"
                           "for all connections;\n"
                           ".Em at once, in place ,\n"
                           "which is the same, and where nothing else changed the workers that run take it\n"
                           "over and no new ones start, unless it turns a group on or off or enables a\n"
                           "server that is checked;\n"
                           ".Em for new connections ,\n"
                           "while those that exist keep the old value; or\n"
                           ".Em after a restart .\n"
                           ".Sh SETTINGS\n";

static const char tail[] = ".Sh ROUTES\n"
                           "A listener with\n"
                           ".Ic sni\n"
                           "reads the first message of its clients, the ClientHello of TLS, which says the\n"
                           "name of the server that is wanted (SNI) and the protocols that the client can\n"
                           "speak (ALPN), and only then chooses the upstream.\n"
                           "What is read is not taken: the server gets it as it came, and answers with its\n"
                           "own certificate.\n"
                           "Listeners without\n"
                           ".Ic sni\n"
                           "look at nothing, so that servers may speak first there.\n"
                           ".Pp\n"
                           "Of the routes with\n"
                           ".Ic alpn\n"
                           "those come first whose protocol the client offers, in the order of the client;\n"
                           "then the routes without.\n"
                           "Among these an exact name comes first, then the wildcard, then the route for any name.\n"
                           "Whoever is left goes to the\n"
                           ".Ic upstream\n"
                           "of the listener, clients that ask for no name or for an IP address among them.\n"
                           "Where that is not written they are refused with the alert unrecognized_name\n"
                           ".Pq reason Ql no_route .\n"
                           "The order of the routes in the file does not matter.\n"
                           "With ECH only the outer name can be read.\n"
                           ".Pp\n"
                           "A hello may be cut into records and segments anyhow.\n"
                           "Refused are, each with the alert that is for it and before any server hears of\n"
                           "it: what is no TLS\n"
                           ".Pq Ql not_tls ;\n"
                           "what is malformed, or asks for something that cannot be the name of a host\n"
                           ".Pq Ql bad_hello ;\n"
                           "what is longer than\n"
                           ".Ic client_hello.max\n"
                           ".Pq Ql hello_too_large ;\n"
                           "and what is not complete within\n"
                           ".Ic client_hello.timeout\n"
                           ".Pq Ql hello_timeout .\n"
                           ".Pp\n"
                           "Clients of PostgreSQL ask for TLS in a message of its own protocol first.\n"
                           "With\n"
                           ".Ic client_hello.starttls No = Ql \(dqpostgres\(dq\n"
                           "Aegis grants it, reads the hello, and asks the server in the same way before it\n"
                           "passes the hello on; a server that declines is left for another one\n"
                           ".Pq Ql server_no_tls .\n"
                           "The client verifies the certificate of the server as without Aegis\n"
                           ".Pq Li sslmode=verify-full .\n"
                           "A client that goes on without encryption is told so and refused; so is a request\n"
                           "to cancel a query that is sent without (libpq before version 17).\n"
                           ".Sh ACME\n"
                           "An authority that gives certificates away asks at port 80 whose a name is (http-01,\n"
                           "RFC 8555): for a token that the ACME client has put into a file.\n"
                           "A listener with\n"
                           ".Ic acme.challenges\n"
                           "gives that answer itself, with no server behind it and nothing to be told: a client\n"
                           "whose first bytes are\n"
                           ".Pp\n"
                           ".Dl GET /.well-known/acme-challenge/TOKEN HTTP/1.1\n"
                           ".Pp\n"
                           "(or HEAD, or another HTTP/1 version) gets the file TOKEN of the folder, and the\n"
                           "connection ends\n"
                           ".Pq reason Ql challenge_answered .\n"
                           "Everybody else goes on to the upstream as if nothing had been, with the first byte\n"
                           "that is different: also who asks for a token that has no file, and who writes the\n"
                           "path in any other way.\n"
                           "With\n"
                           ".Ic acme.only\n"
                           "there is no upstream, and everybody else gets a 404 that says no more, and is closed\n"
                           ".Pq Ql no_challenge .\n"
                           "Of a connection only the first request is looked at, after\n"
                           ".Ic allow , deny , rate_limit , max_connections\n"
                           "and the header of\n"
                           ".Ic accept_proxy .\n"
                           ".Pp\n"
                           "A token has 1 to 128 letters, digits,\n"
                           ".Ql -\n"
                           "and\n"
                           ".Ql _ .\n"
                           "Its file is a regular one (no link) with 1 byte to 4 kB that the workers' user may\n"
                           "read, in a folder that it may enter; the log tells of one that is not.\n"
                           "The folder may be made later, or anew.\n"
                           "Closed are who has asked for a token that is there, and does not end the head of the\n"
                           "request in\n"
                           ".Ic acme.timeout\n"
                           ".Pq Ql challenge_timeout ,\n"
                           "within 8 kB, or at all\n"
                           ".Pq Ql bad_challenge ,\n"
                           "and who asked for a file that is emptied, or grows over 4 kB, meanwhile\n"
                           ".Pq Ql challenge_lost .\n"
                           "A server that speaks before its clients do is not heard before\n"
                           ".Ic acme.timeout\n"
                           "is over: this is for HTTP.\n"
                           ".Sh PROXY PROTOCOL\n"
                           "A proxy in front of Aegis may tell who the client is, and Aegis may tell its\n"
                           "servers, by a header in front of all that the client says.\n"
                           "Version 1 is a line of text; version 2 is binary and may say more, in TLVs.\n"
                           ".Pp\n"
                           "A listener with\n"
                           ".Ic accept_proxy\n"
                           "reads headers of both versions from the peers that\n"
                           ".Ic from\n"
                           "names, and from nobody else.\n"
                           "First the peer is looked at, then it gets its place in\n"
                           ".Ic max_connections ,\n"
                           "then its header is read; the client that it tells of is the one that\n"
                           ".Ic allow , deny\n"
                           "and\n"
                           ".Ic rate_limit\n"
                           "look at after that, that is hashed and remembered, and that stands in logs and\n"
                           "in the flight recorder.\n"
                           "Where the header speaks for nobody\n"
                           ".Pq Ql LOCAL , UNKNOWN\n"
                           "the peer itself is the client.\n"
                           "Refused, with a reset and one line in the log, are peers that are not named\n"
                           ".Pq reason Ql proxy_untrusted ;\n"
                           "what is no header, or not one by the letter of the specification, or longer than\n"
                           "4112 bytes, or has a wrong check sum\n"
                           ".Pq Ql proxy_header ;\n"
                           "and what is not complete in time\n"
                           ".Pq Ql proxy_timeout .\n"
                           "A peer that leaves without a byte has\n"
                           ".Ql proxy_left .\n"
                           ".Pp\n"
                           "With\n"
                           ".Ic send_proxy\n"
                           "the header goes to a server right after the connect, before TLS where that is\n"
                           "spoken with it; pools of connections cannot go with it.\n"
                           "Version 2 passes on what another proxy told, up to 1280 bytes of TLVs, without\n"
                           "its check sum.\n"
                           "Of a client whose TLS is ended here it tells the name that was asked for, the\n"
                           "protocol (ALPN), version, cipher and the name in a verified certificate, in place\n"
                           "of what another proxy says of these; of one whose hello was read by\n"
                           ".Ic sni\n"
                           "the name.\n"
                           ".Sh SOURCE\n"
                           "With an address as\n"
                           ".Ic source\n"
                           "of an upstream, all that goes to its servers comes from there: connections, those\n"
                           "of pools, datagrams, health checks and the test at the start.\n"
                           "An address that is not one of this machine is refused at a start and at a reload,\n"
                           "unless the kernel allows it\n"
                           ".Pq Va net.ipv4.ip_nonlocal_bind , net.ipv6.ip_nonlocal_bind ;\n"
                           "when it goes away, connections fail\n"
                           ".Pq Ql connect_failed\n"
                           "and the servers are not blamed.\n"
                           "Connections that workers share\n"
                           ".Pq Ic pool.share\n"
                           "before a reload that changes it are used up after it.\n"
                           ".Pp\n"
                           "With\n"
                           ".Ql client\n"
                           "servers see the client's address, that which a proxy told of included; the port is\n"
                           "another one.\n"
                           "What they answer must come back to this machine and be taken in here, which takes\n"
                           "routes and rules of the kernel.\n"
                           "With one link to the servers that has nothing else to carry:\n"
                           ".Pp\n"
                           ".Dl ip rule add iif LINK lookup 100\n"
                           ".Dl ip route add local default dev lo table 100\n"
                           ".Pp\n"
                           "and the same with\n"
                           ".Ql ip -6 ;\n"
                           "on the servers, a route to the clients by this machine.\n"
                           "The page\n"
                           ".Pa source-address.md\n"
                           "among the documents has more ways, and what to look at.\n"
                           "Workers keep the capability\n"
                           ".Ql CAP_NET_RAW\n"
                           "(or\n"
                           ".Ql CAP_NET_ADMIN\n"
                           "where only that is there) as long as\n"
                           "an upstream has this; without either one a start or a reload is refused.\n"
                           "The client and the server must be of one family, IPv4 or IPv6: another server is\n"
                           "tried, and then the connection fails\n"
                           ".Pq Ql connect_failed ,\n"
                           "as it does for clients without an address.\n"
                           "Pools cannot go with it; health checks and the test at the start come from this\n"
                           "machine's own address.\n"
                           ".Sh ACCESS LOG\n"
                           "Where\n"
                           ".Ic access_log\n"
                           "is written, each connection has exactly one record when it ends, whatever ends\n"
                           "it; one that is refused has one, too.\n"
                           "A connection that lasts has another one every\n"
                           ".Ic access_log.interval .\n"
                           "With the format\n"
                           ".Ql json\n"
                           "a record is one object on one line, with these members; what there is none of is\n"
                           ".Ql null :\n"
                           ".Bl -tag -width first_byte_ms\n"
                           ".It Ic time\n"
                           "when the record was made, in UTC with milliseconds\n"
                           ".It Ic id\n"
                           "of the connection: the seat of its worker and a number in it, for example\n"
                           ".Ql 3.18472 ;\n"
                           "the same id is shown by\n"
                           ".Xr aegisctl 1 ,\n"
                           "and names it for as long as the counters go on\n"
                           ".It Ic phase\n"
                           ".Ql close\n"
                           "when it ended; of one that lasts,\n"
                           ".Ql open\n"
                           "when\n"
                           ".Ic access_log.interval\n"
                           "has passed for the first time and\n"
                           ".Ql interval\n"
                           "each time after that\n"
                           ".It Ic client\n"
                           "its address and port, or\n"
                           ".Ql unix ;\n"
                           "what a proxy told of it, where one did\n"
                           ".It Ic listener , upstream , server\n"
                           "their names; no server where none was chosen\n"
                           ".It Ic sni\n"
                           "the name that the client asked for, of those that did and were heard (see ROUTES);\n"
                           "with the format\n"
                           ".Ql text\n"
                           "it stands at the end\n"
                           ".It Ic bytes_up , bytes_down\n"
                           "from the client and to the client, all of them so far\n"
                           ".It Ic datagrams_up , datagrams_down\n"
                           "likewise; of sessions of UDP alone\n"
                           ".It Ic waited_ms\n"
                           "how long it waited in line for a place at a server\n"
                           ".It Ic connect_ms\n"
                           "from its acceptance to the connection to the server, waiting and failed attempts\n"
                           "included\n"
                           ".It Ic first_byte_ms\n"
                           "from its acceptance to the first byte of the server\n"
                           ".It Ic duration_ms\n"
                           "from its acceptance to this record\n"
                           ".It Ic reason\n"
                           "why it ended: a reason as in\n"
                           ".Ql aegis_closes_total\n"
                           ".It Ic closed_by\n"
                           ".Ql client ,\n"
                           ".Ql server ,\n"
                           ".Ql aegis\n"
                           "or\n"
                           ".Ql operator .\n"
                           "Of a connection that both sides ended: who did so first.\n"
                           ".El\n"
                           ".Pp\n"
                           "With the format\n"
                           ".Ql text\n"
                           "the same is one line in this order, with\n"
                           ".Ql -\n"
                           "for what there is none of; syslog and the journal tell the time themselves:\n"
                           ".Pp\n"
                           ".Dl 2026-01-02T03:04:05.678Z 3.18472 close 192.0.2.7:51234 app app/a\n"
                           ".Dl \\  up=120 down=4711 waited=0 connect=0.412 first_byte=1.730\n"
                           ".Dl \\  duration=12.004 finished client\n"
                           ".Pp\n"
                           "The records of one worker are in the order in which they were made.\n"
                           "Nothing that a client sends is in a record but that name, which is one of a host.\n"
                           "The connections of a worker that was killed have none; they are counted as\n"
                           ".Ql worker_died .\n"
                           "Workers leave records and lines of the log in memory, from where the control\n"
                           "process writes them, within some 50 ms.\n"
                           "When the target takes nothing, because its disk is full or nobody reads, they\n"
                           "wait there; what finds no room is dropped and counted\n"
                           ".Pq Li aegis_log_dropped_total ,\n"
                           "and a line of the log says how many were lost as soon as lines are taken again.\n"
                           ".Sh FILES\n"
                           ".Bl -tag -width Ds\n"
                           ".It Pa aegis.conf\n"
                           "in the folder\n"
                           ".Pa aegis\n"
                           "of the system's settings, for example\n"
                           ".Pa /etc/aegis/aegis.conf .\n"
                           ".El\n"
                           ".Sh EXAMPLES\n"
                           "Two application servers and one that only helps out when both are down:\n"
                           ".Bd -literal -offset indent\n"
                           "log = { level = \"info\"; target = \"journal\"; };\n"
                           "\n"
                           "listeners = (\n"
                           "  { name = \"web\"; address = \":8080\"; upstream = \"app\";\n"
                           "    max_connections = 20000; timeout = { idle = \"10m\"; }; }\n"
                           ");\n"
                           "\n"
                           "upstreams = (\n"
                           "  { name = \"app\"; balance = \"least_connections\";\n"
                           "    timeout = { connect = \"2s\"; };\n"
                           "    health = { type = \"http\"; path = \"/health\"; }; slow_start = \"30s\";\n"
                           "    servers = (\n"
                           "      { name = \"a\"; address = \"10.0.0.11:3000\"; },\n"
                           "      { name = \"b\"; address = \"10.0.0.12:3000\"; weight = 200; },\n"
                           "      { name = \"spare\"; address = \"10.0.0.99:3000\"; backup = true; }\n"
                           "    ); }\n"
                           ");\n"
                           ".Ed\n"
                           ".Pp\n"
                           "A shield in front of a database:\n"
                           ".Bd -literal -offset indent\n"
                           "listeners = ( { address = \"127.0.0.1:6432\"; allow = [ \"127.0.0.0/8\" ]; } );\n"
                           "upstreams = (\n"
                           "  { name = \"postgres\";\n"
                           "    servers = ( { address = \"unix:/run/postgresql/.s.PGSQL.5432\";\n"
                           "                  max_connections = 90; } );\n"
                           "    queue = { size = 1000; timeout = \"30s\"; };\n"
                           "    health = { type = \"postgres\"; };\n"
                           "    when_all_down = \"wait\"; connect_rate = \"100/s\"; }\n"
                           ");\n"
                           ".Ed\n"
                           ".Sh SEE ALSO\n"
                           ".Xr aegis-stat 1 ,\n"
                           ".Xr tcp 7 ,\n"
                           ".Xr unix 7 ,\n"
                           ".Xr aegis 8\n";

/* A page under construction: text is broken into short lines, a new one after each sentence, as mandoc wants it. */
struct page {
	FILE *out;
	int column;
};

static void end_line(struct page *page)
{
	if (page->column > 0)
		fputc('\n', page->out);
	page->column = 0;
}

static void put_word(struct page *page, const char *word, size_t length)
{
	if (page->column > 0 && (size_t)page->column + 1 + length > MANUAL_COLUMNS)
		end_line(page);
	if (page->column > 0)
		page->column += fputc(' ', page->out) != EOF;
	else if (*word == '.' || *word == '\'')
		fputs("\\&", page->out); /* a line that starts so would be a request */
	for (size_t i = 0; i < length; i++, page->column++) {
		if (word[i] == '\\')
			fputs("\\e", page->out);
		else if (word[i] == '-' && i == 0)
			fputs("\\-", page->out); /* an option, or an end of a range */
		else
			fputc(word[i], page->out);
	}
	if (length > 1 && (word[length - 1] == '.' || word[length - 1] == '?'))
		end_line(page);
}

static void put_text(struct page *page, const char *s)
{
	while (*s != '\0') {
		size_t length = strcspn(s, " ");
		if (length > 0)
			put_word(page, s, length);
		s += length;
		s += *s == ' ';
	}
}

/* How an object is reached from the top: "listeners.tcp". */
static void add_object_path(struct text *out, enum object object)
{
	const struct object_row *row = &object_rows[object];

	if (object == OBJECT_TOP)
		return;
	add_object_path(out, row->parent);
	text_add(out, "%s%s", out->length > 0 ? "." : "", row->key);
}

static void put_default(struct page *page, const struct option *option)
{
	char bytes[VALUE_SIZE];
	struct text text = text_of(bytes, sizeof bytes);

	if (option->derived_default != NULL) {
		text_add(&text, "Default: %s.", option->derived_default);
	} else if (option->fallback == NULL) {
		text_add(&text, "Must be set.");
	} else {
		text_add(&text, "Default: ");
		value_add_default(option, &text);
		text_add(&text, ".");
	}
	put_text(page, bytes);
	if (option->without_group == NULL)
		return;
	text = text_of(bytes, sizeof bytes);
	text_add(&text, "Without %s: ", object_rows[option->object].key);
	value_add_without_group(option, &text);
	text_add(&text, ".");
	put_text(page, bytes);
}

static void put_option(struct page *page, const struct option *option)
{
	char bytes[VALUE_SIZE];
	struct text text = text_of(bytes, sizeof bytes);

	fprintf(page->out, ".It Ic %s\n", option->key);
	put_text(page, option->help);
	if (option->only_with != NULL) {
		text_add(&text, "Only with ");
		option_add_use(option, &text);
		text_add(&text, ".");
		put_text(page, bytes);
		text = text_of(bytes, sizeof bytes);
	}
	end_line(page);
	fputs(".br\n", page->out);
	text_add(&text, "Value: ");
	value_add_wanted(option, &text);
	text_add(&text, ".");
	put_text(page, bytes);
	put_default(page, option);
	text = text_of(bytes, sizeof bytes);
	text_add(&text, "Reload: %s.", reload_texts[option->reload]);
	put_text(page, bytes);
	end_line(page);
}

static void put_object(struct page *page, enum object object)
{
	const struct object_row *row = &object_rows[object];
	char path[64];
	struct text text = text_of(path, sizeof path);

	add_object_path(&text, object);
	if (object == OBJECT_TOP)
		fputs(".Ss Top of the file\n", page->out);
	else
		fprintf(page->out, ".Ss %s = %s\n", path, row->list ? "\\&( { ... }, ... \\&)" : "{ ... }");
	if (row->help != NULL)
		put_text(page, row->help);
	if (row->only_with != NULL) {
		char bytes[VALUE_SIZE];
		struct text use = text_of(bytes, sizeof bytes);
		text_add(&use, "Only with ");
		object_add_use(object, &use);
		text_add(&use, ".");
		put_text(page, bytes);
	}
	end_line(page);
	fputs(".Bl -tag -width Ds\n", page->out);
	for (size_t i = 0; i < n_option_rows; i++)
		if (option_rows[i].object == object)
			put_option(page, &option_rows[i]);
	fputs(".El\n", page->out);
}

void config_manual(FILE *out)
{
	struct page page = { .out = out };

	fputs(head, out);
	for (enum object object = OBJECT_TOP; object < N_OBJECTS; object++)
		put_object(&page, object);
	fputs(tail, out);
}
