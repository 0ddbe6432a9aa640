//go:build ignore

// Each reply goes to the router that its request came from: learn records the
// router of a client's packets, and answer sends the replies to it. If answer
// does not know the router, the packet goes on by its route.
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#define inline static __always_inline
#define load bpf_skb_load_bytes
#define lookup bpf_map_lookup_elem
#define update(map, key, value) bpf_map_update_elem(map, key, value, BPF_ANY)

struct hop { // next hop of a reply: the addresses of the request's frame, swapped
	__u8 router[ETH_ALEN], ours[ETH_ALEN];
	__u32 link; // 0: none
} __attribute__((aligned(8)));
struct key { // one connection, laid out as the IPv6 half of bpf_sock_tuple
	__be32 remote[4], local[4]; // IPv4 is mapped
	__be16 rport, lport;        // of an echo: identifier, 0; in frags: IP's identification
	__u32 protocol;             // ICMPv6 counts as ICMP
};
struct listener { __be32 addr[4]; __be16 port, protocol; }; // port 0: echo; TCP to unlisted ports
struct moving {
	struct hop hop, candidate; // candidate: the sender of the last datagram, if that is not hop
	__u64 seen;                // when hop sent its last one, in ns of the monotonic clock
};
struct noted { __u64 seen; struct key flow; }; // of a hop: the time and the flow
enum count { LEARNED, MOVED, REFUSED, ANSWERED, BY_TABLE, DEAD, COUNTS }; // see Counts in Go
#define MAP(name, kind, k, v, n) struct { \
	__uint(type, BPF_MAP_TYPE_##kind); __type(key, k); __type(value, v); \
	__uint(max_entries, n); } name SEC(".maps")
MAP(tcp, LRU_HASH, struct key, struct hop, 1 << 18);    // connections that have a socket here
MAP(syn, LRU_HASH, struct key, struct hop, 1 << 16);    // handshakes, and segments without a socket
MAP(any, LRU_HASH, struct key, struct moving, 1 << 18); // UDP and echo
MAP(frags, LRU_HASH, struct key, struct hop, 1 << 12);  // packets that left in fragments
MAP(wanted, HASH, struct listener, __u8, 1 << 17);      // the listeners, from the daemon
MAP(dead, HASH, struct hop, struct hop, 1 << 10);       // from the daemon: its stand-in, or none
MAP(conf, ARRAY, __u32, __u32, 1);                      // from the daemon: how many are dead
MAP(hops, LRU_HASH, struct hop, struct noted, 1 << 12); // the last note of each
MAP(counts, PERCPU_ARRAY, __u32, __u64, COUNTS);

inline void count(__u32 what)
{
	__u64 *n = lookup(&counts, &what);
	if (n) (*n)++;
}

inline bool same(const struct hop *a, const struct hop *b)
{
	const __u64 *x = (void *)a, *y = (void *)b;
	return a && b && x[0] == y[0] && x[1] == y[1];
}

struct packet {
	struct key key;
	union { // the transport header
		struct tcphdr tcp;
		__be16 half[4]; // ports; of ICMP: type and code, checksum, identifier
		__u8 type;      // in the numbers of ICMPv6: errors are below ECHO
	};
	__u32 at; // the offset of that header
	__be32 id;
	bool v6, later, more; // later: a fragment that is not the first; more: not the last
};
enum { ECHO = 128, REPLY = 129 };

inline bool read6(struct __sk_buff *skb, __be32 *source, __be32 *target, struct packet *p)
{
	enum { HOP_BY_HOP = 0, ROUTING = 43, FRAGMENT = 44, DESTINATION = 60 };
	struct { __u8 next, words; __be16 offset; __be32 id; } h;
	struct ipv6hdr ip;
	if (load(skb, p->at, &ip, sizeof(ip))) return false;
	__builtin_memcpy(source, &ip.saddr, 16), __builtin_memcpy(target, &ip.daddr, 16);
	p->at += sizeof(ip), h.next = ip.nexthdr;
	for (int i = 0; i < 6 && !p->later; i++) {
		bool options = h.next == HOP_BY_HOP || h.next == ROUTING || h.next == DESTINATION;
		if (!options && h.next != FRAGMENT) break;
		if (load(skb, p->at, &h, sizeof(h))) return false;
		p->at += options ? 8 + h.words * 8 : 8;
		if (options) continue;
		p->later = h.offset & bpf_htons(0xfff8), p->more = h.offset & bpf_htons(1);
		p->id = h.id;
	}
	p->key.protocol = h.next == IPPROTO_ICMPV6 ? IPPROTO_ICMP : h.next;
	return true;
}

// read reads a packet; out: the host sends it. It returns false for all but TCP, UDP and ICMP.
inline bool read(struct __sk_buff *skb, __u32 at, bool out, struct packet *p)
{
	struct iphdr ip;
	*p = (struct packet){.at = at, .v6 = skb->protocol == bpf_htons(ETH_P_IPV6)};
	__be32 *from = out ? p->key.local : p->key.remote, *to = out ? p->key.remote : p->key.local;
	if (p->v6) {
		if (!read6(skb, from, to, p)) return false;
	} else {
		if (load(skb, at, &ip, sizeof(ip))) return false;
		from[2] = to[2] = bpf_htonl(0xffff), from[3] = ip.saddr, to[3] = ip.daddr;
		p->later = ip.frag_off & bpf_htons(0x1fff), p->id = ip.id, p->at += ip.ihl * 4;
		p->more = ip.frag_off & bpf_htons(0x2000), p->key.protocol = ip.protocol;
	}
	bool is_tcp = p->key.protocol == IPPROTO_TCP, icmp = p->key.protocol == IPPROTO_ICMP;
	if (p->later) __builtin_memcpy(&p->key.rport, &p->id, sizeof(p->id));
	else if (load(skb, p->at, &p->tcp, is_tcp ? sizeof(p->tcp) : 8)) return false;
	else if (icmp) p->key.rport = *(volatile __be16 *)&p->half[2]; // no computed address
	else p->key.rport = p->half[out], p->key.lport = p->half[!out];
	if (icmp && !p->v6) p->type = p->type == 8 ? ECHO : p->type ? 1 : REPLY;
	return is_tcp || icmp || p->key.protocol == IPPROTO_UDP;
}

inline bool want(const struct key *k, __be16 port)
{
	struct listener l = {.port = port, .protocol = k->protocol};
	__builtin_memcpy(l.addr, k->local, 16);
	return lookup(&wanted, &l);
}

inline void note(const struct key *k, const struct hop *h)
{
	struct noted n = {bpf_ktime_get_ns(), *k}, *is = lookup(&hops, h);
	if (is) *is = n; else update(&hops, h, &n); // an update would use a new entry
}

// ask asks the socket of a connection whether a segment's numbers fit its windows.
enum { NONE, REFUSES, ACCEPTS, BEHIND = 1 << 20, AHEAD = 4 << 20 }; // bytes that they may be off
inline int ask(struct __sk_buff *skb, struct packet *p)
{
	struct key *k = &p->key;
	struct bpf_sock_tuple four = {.ipv4 = {k->remote[3], k->local[3], k->rport, k->lport}};
	struct bpf_sock *sk = bpf_sk_lookup_tcp(skb, p->v6 ? (void *)k : &four,
		p->v6 ? sizeof(four.ipv6) : sizeof(four.ipv4), BPF_F_CURRENT_NETNS, 0);
	if (!sk) return NONE;
	struct bpf_tcp_sock *t = sk->state == BPF_TCP_LISTEN ? NULL : bpf_tcp_sock(sk);
	int is = NONE;
	if (t) {
		__s32 seq = bpf_ntohl(p->tcp.seq) - t->rcv_nxt;
		__u32 ack = bpf_ntohl(p->tcp.ack_seq);
		bool old = seq < -BEHIND || (__s32)(ack - t->snd_una) < -BEHIND || !p->tcp.ack;
		is = old || seq > AHEAD || (__s32)(ack - t->snd_nxt) > 0 ? REFUSES : ACCEPTS;
	}
	bpf_sk_release(sk);
	return is;
}

inline void learn_tcp(struct __sk_buff *skb, struct packet *p, const struct hop *h)
{
	bool opens = p->tcp.syn;
	struct hop *known = lookup(&tcp, &p->key);
	if (p->tcp.rst || opens && p->tcp.ack || !opens && same(known, h)) return;
	bool listed = known || want(&p->key, p->key.lport); // a known flow was listed at its start
	if (!listed && !want(&p->key, 0)) return;
	struct hop *early = lookup(&syn, &p->key);
	int socket = listed && opens ? NONE : ask(skb, p);
	if (socket == ACCEPTS && listed) {
		update(&tcp, &p->key, h), note(&p->key, h);
		count(known || early && !same(early, h) ? MOVED : LEARNED);
	} else if (listed && (socket != NONE || !opens && known)) {
		count(REFUSED);
	} else if (early ? !same(early, h) && socket == (opens ? NONE : ACCEPTS) : !socket) {
		update(&syn, &p->key, h), note(&p->key, h); // a socket but no entry: the host's own
	}
}

// learn_datagram moves a flow to another hop at that hop's second datagram, if
// the old hop sent none in between, or after a second of silence.
inline void learn_datagram(struct packet *p, const struct hop *h)
{
	__u64 now = bpf_ktime_get_ns();
	struct moving *m = lookup(&any, &p->key), fresh = {.hop = *h, .seen = now};
	if (m && same(&m->hop, h)) {
		m->seen = now, m->candidate.link = 0;
	} else if (m && now - m->seen <= 1000000000 && !same(&m->candidate, h)) {
		m->candidate = *h;
		count(REFUSED);
	} else if (want(&p->key, p->key.lport)) {
		update(&any, &p->key, &fresh), note(&p->key, h);
		count(m ? MOVED : LEARNED);
	}
}

inline struct hop *instead_of(const struct hop *h) // the stand-in of a dead hop, else NULL
{
	__u32 zero = 0, *some = lookup(&conf, &zero);
	return h && some && *some ? lookup(&dead, h) : NULL;
}

SEC("tc") int learn(struct __sk_buff *skb)
{
	struct ethhdr eth;
	struct packet p;
	if (skb->pkt_type || skb->vlan_present && skb->vlan_tci & 0xfff || // id 0 is no VLAN
	    skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6) ||
	    load(skb, 0, &eth, sizeof(eth)) || eth.h_source[0] & 1 ||
	    !read(skb, sizeof(eth), false, &p) || p.later)
		return TC_ACT_UNSPEC;
	struct hop h = {.link = skb->ifindex};
	__builtin_memcpy(h.router, eth.h_source, ETH_ALEN);
	__builtin_memcpy(h.ours, eth.h_dest, ETH_ALEN);
	if (instead_of(&h)) bpf_map_delete_elem(&dead, &h), note(&p.key, &h); // it sends again
	if (p.key.protocol == IPPROTO_TCP) learn_tcp(skb, &p, &h);
	else if (p.key.protocol == IPPROTO_UDP || p.type == ECHO) learn_datagram(&p, &h);
	return TC_ACT_UNSPEC;
}

// find returns the hop of a packet that the host sends, or of the one that its ICMP error quotes.
inline struct hop *find(struct packet *p, bool quoted)
{
	if (p->later) return lookup(&frags, &p->key);
	if (p->key.protocol == IPPROTO_ICMP && p->type != (quoted ? ECHO : REPLY)) return NULL;
	if (p->key.protocol != IPPROTO_TCP) return lookup(&any, &p->key); // hop is its first member
	struct hop *known = lookup(&tcp, &p->key);
	if (!p->tcp.syn) return known ?: lookup(&syn, &p->key);
	if (!p->tcp.ack && !quoted) { // the host opens it: drop the stray
		bpf_map_delete_elem(&syn, &p->key);
		return NULL;
	}
	struct hop *early = lookup(&syn, &p->key);
	if (early && known && !quoted) update(&tcp, &p->key, early); // a new connection, same ports
	return early ?: known;
}

SEC("lwt_xmit") int answer(struct __sk_buff *skb)
{
	struct packet p;
	if (!read(skb, 0, true, &p)) return BPF_OK;
	bool quoted = p.key.protocol == IPPROTO_ICMP && !p.later && p.type < ECHO;
	if (quoted && (!read(skb, p.at + 8, false, &p) || p.later)) return BPF_OK;
	struct hop *h = find(&p, quoted), *instead = instead_of(h);
	if (instead) count(DEAD), h = instead->link ? instead : NULL;
	if (!h && !p.later && want(&p.key, p.key.lport)) count(BY_TABLE);
	if (!h) return BPF_OK;
	struct hop to = *h;
	struct ethhdr eth = {.h_proto = skb->protocol};
	__builtin_memcpy(&eth, &to, 2 * ETH_ALEN);
	__builtin_memcpy(&p.key.rport, &p.id, sizeof(p.id));
	if (p.more && !p.later && !quoted) update(&frags, &p.key, &to);
	if (bpf_skb_change_head(skb, ETH_HLEN, 0) || bpf_skb_store_bytes(skb, 0, &eth, ETH_HLEN, 0))
		return BPF_OK;
	count(ANSWERED);
	return bpf_redirect(to.link, 0);
}
char __license[] SEC("license") = "Apache-2.0"; // no helper here requires the GPL
