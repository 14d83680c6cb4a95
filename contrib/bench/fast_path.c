/* What a fast path in the kernel would do for each datagram of a UDP session, as an XDP program: find the session, rewrite both addresses
 * and ports, correct the checksums, note when it was, and send it on. contrib/bench/fast_path runs it.
 *
 * It makes the sessions by itself: what it writes into the packet belongs to the next session, so that a packet which is given to it over
 * and over again goes through all of them. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>

#ifndef SESSIONS
#define SESSIONS 64
#endif
#define SECTION(name) __attribute__((section(name), used))
#define KIND_OF_MAP(name, value) int(*name)[value]

static void *(*const find)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const add)(void *map, const void *key, const void *value, __u64 flags) = (void *)BPF_FUNC_map_update_elem;
static __u64 (*const now_ns)(void) = (void *)BPF_FUNC_ktime_get_ns;

struct key {
	__be32 client, local;
	__be16 client_port, local_port;
};

struct session {
	struct key towards;
	__u8 macs[2 * ETH_ALEN];
	__u64 active_ns, datagrams, bytes;
};

struct {
	KIND_OF_MAP(type, BPF_MAP_TYPE_HASH);
	KIND_OF_MAP(max_entries, 2 * SESSIONS);
	struct key *key;
	struct session *value;
} sessions SECTION(".maps");

/* RFC 1624: a checksum after the words of one key were exchanged for those of another. */
static inline __u16 corrected(__u16 checksum, const struct key *from, const struct key *to, int words)
{
	const __u16 *old = (const void *)from, *new = (const void *)to;
	__u32 sum = (__u16)~checksum;
	for (int i = 0; i < words; i++)
		sum += (__u16)~old[i] + new[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16) ~((sum & 0xffff) + (sum >> 16));
}

static inline void begin(const struct key *key)
{
	__u32 next = (__builtin_bswap32(key->client) - 0x0a000000 + 1) % SESSIONS;
	struct session session = { .towards = *key };
	session.towards.client = __builtin_bswap32(0x0a000000 + next);
	add(&sessions, key, &session, BPF_ANY);
}

SECTION("xdp") int fast_path(struct xdp_md *packet)
{
	struct ethhdr *ethernet = (void *)(long)packet->data;
	struct iphdr *ip = (void *)(ethernet + 1);
	struct udphdr *udp = (void *)(ip + 1);
	if ((void *)(udp + 1) > (void *)(long)packet->data_end)
		return XDP_PASS;
	if (ethernet->h_proto != __builtin_bswap16(ETH_P_IP) || ip->protocol != IPPROTO_UDP || ip->ihl != 5 ||
	        ip->frag_off & __builtin_bswap16(0x3fff))
		return XDP_PASS;
	struct key key = { ip->saddr, ip->daddr, udp->source, udp->dest };
	struct session *session = find(&sessions, &key);
	if (!session) {
		begin(&key);
		session = find(&sessions, &key);
		if (!session)
			return XDP_PASS;
	}
	ip->check = corrected(ip->check, &key, &session->towards, 4);
	if (udp->check)
		udp->check = corrected(udp->check, &key, &session->towards, 6);
	ip->saddr = session->towards.client;
	ip->daddr = session->towards.local;
	udp->source = session->towards.client_port;
	udp->dest = session->towards.local_port;
	__builtin_memcpy(ethernet, session->macs, sizeof session->macs);
	session->active_ns = now_ns();
	session->datagrams++;
	session->bytes += __builtin_bswap16(udp->len);
	return XDP_TX;
}
