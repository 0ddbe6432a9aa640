//go:build ignore

// Each reply goes to the router that its request came from. Two programs share
// nine maps: learn notes by which router a client's packets come in, answer
// sends what we say to that client back there. Where answer knows nothing, the
// route that it sits on decides.
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
#define SECOND 1000000000ull
#define BEHIND (1 << 20) // bytes that a segment may be behind what is expected
#define AHEAD (4 << 20)

// hop is the next hop of a reply: the frame that brought the request, turned.
struct hop {
	__u32 link; // 0: none
	__u8 router[ETH_ALEN], ours[ETH_ALEN];
} __attribute__((aligned(8)));

// key is one connection: IPv4 addresses are mapped, an echo has its identifier
// as the remote port. In frags, the ports are the identification.
struct key {
	__be32 remote[4], local[4];
	__be16 rport, lport;
	__u32 protocol;
};

struct listener {
	__be32 addr[4];
	__be16 port; // 0: see want
	__u16 protocol;
};

struct moving { // a hop, and another one that sent the last datagram
	struct hop hop, candidate;
	__u64 seen; // of hop, in ns of the monotonic clock
};

enum count { LEARNED, MOVED, REFUSED, ANSWERED, BY_TABLE, DEAD, COUNTS };

#define MAP(name, kind, k, v, n) struct { \
	__uint(type, BPF_MAP_TYPE_##kind); __type(key, k); __type(value, v); \
	__uint(max_entries, n); } name SEC(".maps")

MAP(tcp, LRU_HASH, struct key, struct hop, 1 << 18);    // connections that have a socket
MAP(syn, LRU_HASH, struct key, struct hop, 1 << 16);    // handshakes and strays
MAP(any, LRU_HASH, struct key, struct moving, 1 << 18); // UDP and echo
MAP(frags, LRU_HASH, struct key, struct hop, 1 << 12);  // what we sent in fragments
MAP(wanted, HASH, struct listener, __u8, 1 << 17);      // written by the daemon
MAP(dead, HASH, struct hop, struct hop, 1 << 10);       // likewise: its stand-in, or none
MAP(conf, ARRAY, __u32, __u32, 1);                      // likewise: how many are dead
MAP(hops, LRU_HASH, struct hop, __u64, 1 << 12);        // when something of it was noted
MAP(counts, PERCPU_ARRAY, __u32, __u64, COUNTS);

inline void count(__u32 what)
{
	__u64 *n = bpf_map_lookup_elem(&counts, &what);
	if (n)
		(*n)++;
}

inline bool same(const struct hop *a, const struct hop *b)
{
	const __u64 *x = (void *)a, *y = (void *)b;
	return a && b && x[0] == y[0] && x[1] == y[1];
}

// packet is what matters of one, as the host sees it: remote and local do not
// depend on its direction.
struct packet {
	struct key key;
	__u32 at; // of the transport header
	__be32 id;
	bool first, later; // of the fragments
	__u8 type;         // of ICMP
};

enum { SYN = 2, ACK = 16 };                      // flags of TCP
enum { ECHO = 8, ECHO6 = 128, REPLY6 = 129 };     // types of ICMP and of ICMPv6

inline void set4(__be32 *to, __be32 a)
{
	to[0] = to[1] = 0, to[2] = bpf_htonl(0xffff), to[3] = a;
}

inline bool read4(struct __sk_buff *skb, __u32 at, bool out, struct packet *p)
{
	struct iphdr ip;
	if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)))
		return false;
	set4(p->key.remote, out ? ip.daddr : ip.saddr);
	set4(p->key.local, out ? ip.saddr : ip.daddr);
	p->later = ip.frag_off & bpf_htons(0x1fff);
	p->first = !p->later && ip.frag_off & bpf_htons(0x2000);
	p->id = ip.id;
	p->key.protocol = ip.protocol;
	p->at = at + ip.ihl * 4;
	return true;
}

inline bool read6(struct __sk_buff *skb, __u32 at, bool out, struct packet *p)
{
	struct ipv6hdr ip;
	if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)))
		return false;
	__builtin_memcpy(p->key.remote, out ? &ip.daddr : &ip.saddr, 16);
	__builtin_memcpy(p->key.local, out ? &ip.saddr : &ip.daddr, 16);
	__u8 next = ip.nexthdr, header[8];
	at += sizeof(ip);
#pragma unroll
	for (int i = 0; i < 6; i++) {
		bool options = next == 0 || next == 43 || next == 60; // hop-by-hop, routing, destination
		if (!options && next != 44 || p->later)
			break;
		if (bpf_skb_load_bytes(skb, at, header, sizeof(header)))
			return false;
		if (next == 44) { // fragment
			p->later = header[2] || header[3] & 0xf8;
			p->first = !p->later && header[3] & 1;
			__builtin_memcpy(&p->id, header + 4, 4);
		}
		at += options ? 8 + header[1] * 8 : 8;
		next = header[0];
	}
	p->key.protocol = next == IPPROTO_ICMPV6 ? IPPROTO_ICMP : next;
	p->at = at;
	return true;
}

// read fills in what answer and learn ask of a packet whose IP header is at an
// offset. False: it is none of ours.
inline bool read(struct __sk_buff *skb, __u32 at, bool out, struct packet *p)
{
	__u8 version;
	__be16 head[4]; // ports; of ICMP: type and code, checksum, identifier
	if (bpf_skb_load_bytes(skb, at, &version, 1))
		return false;
	bool v6 = version >> 4 == 6;
	if (!(v6 ? read6(skb, at, out, p) : read4(skb, at, out, p)))
		return false;
	if (p->later)
		return true;
	if (bpf_skb_load_bytes(skb, p->at, head, sizeof(head)))
		return false;
	if (p->key.protocol == IPPROTO_ICMP) {
		p->type = *(__u8 *)head;
		if (!v6) // as ICMPv6 counts them: below 128 are errors
			p->type = p->type == ECHO ? ECHO6 : p->type ? 1 : REPLY6;
		p->key.rport = head[2];
		return true;
	}
	p->key.rport = head[out], p->key.lport = head[!out];
	return p->key.protocol == IPPROTO_TCP || p->key.protocol == IPPROTO_UDP;
}

inline bool want(const struct key *k, __be16 port)
{
	struct listener l = {.port = port, .protocol = k->protocol};
	__builtin_memcpy(l.addr, k->local, 16);
	return bpf_map_lookup_elem(&wanted, &l);
}

inline void note(void *map, struct key *k, const void *value, const struct hop *h, bool moved)
{
	__u64 now = bpf_ktime_get_ns();
	bpf_map_update_elem(map, k, value, BPF_ANY);
	bpf_map_update_elem(&hops, h, &now, BPF_ANY);
	count(moved ? MOVED : LEARNED);
}

// accepts reports whether a segment's numbers fit the connection's windows.
inline bool accepts(const struct bpf_tcp_sock *t, __u32 seq, __u32 ack)
{
	return (__s32)(seq - t->rcv_nxt) >= -BEHIND && (__s32)(seq - t->rcv_nxt) <= AHEAD &&
	       (__s32)(ack - t->snd_una) >= -BEHIND && (__s32)(ack - t->snd_nxt) <= 0;
}

enum owner { NONE, LISTENS, REFUSES, ACCEPTS };

inline enum owner ask(struct __sk_buff *skb, struct key *k, bool v6, const struct tcphdr *h)
{
	struct bpf_sock_tuple t = {};
	if (v6) {
		__builtin_memcpy(t.ipv6.saddr, k->remote, 16);
		__builtin_memcpy(t.ipv6.daddr, k->local, 16);
		t.ipv6.sport = k->rport, t.ipv6.dport = k->lport;
	} else {
		t.ipv4.saddr = k->remote[3], t.ipv4.daddr = k->local[3];
		t.ipv4.sport = k->rport, t.ipv4.dport = k->lport;
	}
	struct bpf_sock *sk = bpf_sk_lookup_tcp(skb, &t, v6 ? sizeof(t.ipv6) : sizeof(t.ipv4),
						BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return NONE;
	enum owner is = LISTENS;
	struct bpf_tcp_sock *tcp_sk = sk->state == BPF_TCP_LISTEN ? NULL : bpf_tcp_sock(sk);
	if (tcp_sk)
		is = accepts(tcp_sk, bpf_ntohl(h->seq), bpf_ntohl(h->ack_seq)) ? ACCEPTS : REFUSES;
	bpf_sk_release(sk);
	return is;
}

inline void learn_tcp(struct __sk_buff *skb, struct packet *p, const struct hop *h, bool v6)
{
	struct tcphdr t;
	bool listed = want(&p->key, p->key.lport);
	if (!listed && !want(&p->key, 0) || bpf_skb_load_bytes(skb, p->at, &t, sizeof(t)) ||
	    t.rst || t.syn && t.ack)
		return;
	struct hop *known = bpf_map_lookup_elem(&tcp, &p->key);
	if (!t.syn && same(known, h))
		return;
	struct hop *early = bpf_map_lookup_elem(&syn, &p->key);
	enum owner is = listed && t.syn ? LISTENS : ask(skb, &p->key, v6, &t);
	if (is == ACCEPTS && listed && t.ack && !t.syn)
		note(&tcp, &p->key, h, h, known ? true : early ? !same(early, h) : false);
	else if (is >= REFUSES || !t.syn && known)
		count(REFUSED); // or a connection of the host's own
	else if (!early || t.syn && !same(early, h))
		note(&syn, &p->key, h, h, false);
}

// learn_datagram moves to another hop at its second datagram without one of the
// old hop between, or after a second of silence.
inline void learn_datagram(struct packet *p, const struct hop *h)
{
	__u64 now = bpf_ktime_get_ns();
	struct moving *m = bpf_map_lookup_elem(&any, &p->key), fresh = {.hop = *h, .seen = now};
	if (!m || !same(&m->hop, h) && (same(&m->candidate, h) || now - m->seen > SECOND)) {
		note(&any, &p->key, &fresh, h, m);
		return;
	}
	if (same(&m->hop, h)) {
		m->seen = now;
		if (m->candidate.link)
			m->candidate.link = 0;
		return;
	}
	m->candidate = *h;
	count(REFUSED);
}

SEC("tc")
int learn(struct __sk_buff *skb)
{
	struct ethhdr eth;
	struct packet p = {};
	bool v6 = skb->protocol == bpf_htons(ETH_P_IPV6);
	if (skb->pkt_type || !v6 && skb->protocol != bpf_htons(ETH_P_IP) ||
	    skb->vlan_present && skb->vlan_tci & 0xfff ||
	    bpf_skb_load_bytes(skb, 0, &eth, sizeof(eth)) || eth.h_source[0] & 1 ||
	    !read(skb, sizeof(eth), false, &p) || p.later)
		return TC_ACT_UNSPEC;
	struct hop h = {.link = skb->ifindex};
	__builtin_memcpy(h.router, eth.h_source, ETH_ALEN);
	__builtin_memcpy(h.ours, eth.h_dest, ETH_ALEN);
	if (p.key.protocol == IPPROTO_TCP)
		learn_tcp(skb, &p, &h, v6);
	else if (p.key.protocol == IPPROTO_UDP ? want(&p.key, p.key.lport) :
		 p.type == ECHO6 && want(&p.key, 0))
		learn_datagram(&p, &h);
	return TC_ACT_UNSPEC;
}

// find returns the hop of what the host sends.
inline struct hop *find(struct __sk_buff *skb, struct packet *p)
{
	if (p->key.protocol != IPPROTO_TCP)
		return bpf_map_lookup_elem(&any, &p->key); // a hop comes first in moving
	__u8 flags;
	struct hop *known = bpf_map_lookup_elem(&tcp, &p->key), *early;
	if (bpf_skb_load_bytes(skb, p->at + 13, &flags, 1))
		flags = ACK; // quoted: the rest of the header is not there
	if ((flags & (SYN | ACK)) == SYN)
		return NULL; // a connection of the host's own
	if (known && !(flags & SYN))
		return known;
	early = bpf_map_lookup_elem(&syn, &p->key);
	if (early && known && !same(early, known)) // the ports are used again
		bpf_map_update_elem(&tcp, &p->key, early, BPF_ANY);
	return early ?: known;
}

SEC("lwt_xmit")
int answer(struct __sk_buff *skb)
{
	struct packet p = {}, quoted = {};
	if (!read(skb, 0, true, &p))
		return BPF_OK;
	struct key part = p.key;
	__builtin_memcpy(&part.rport, &p.id, sizeof(p.id));
	struct hop *h;
	if (p.later)
		h = bpf_map_lookup_elem(&frags, &part);
	else if (p.key.protocol == IPPROTO_ICMP && p.type < ECHO6)
		h = read(skb, p.at + 8, false, &quoted) && !quoted.later ? find(skb, &quoted) : NULL;
	else
		h = find(skb, &p);
	__u32 zero = 0, *some = bpf_map_lookup_elem(&conf, &zero);
	if (h && some && *some) {
		struct hop *instead = bpf_map_lookup_elem(&dead, h);
		if (instead) {
			h = instead->link ? instead : NULL;
			count(DEAD);
		}
	}
	if (!h) {
		if (!p.later && want(&p.key, p.key.protocol == IPPROTO_ICMP ? 0 : p.key.lport))
			count(BY_TABLE);
		return BPF_OK;
	}
	struct hop to = *h;
	if (p.first)
		bpf_map_update_elem(&frags, &part, &to, BPF_ANY);
	struct ethhdr eth = {.h_proto = skb->protocol};
	__builtin_memcpy(eth.h_dest, to.router, ETH_ALEN);
	__builtin_memcpy(eth.h_source, to.ours, ETH_ALEN);
	if (bpf_skb_change_head(skb, sizeof(eth), 0) ||
	    bpf_skb_store_bytes(skb, 0, &eth, sizeof(eth), 0))
		return BPF_OK;
	count(ANSWERED);
	return bpf_redirect(to.link, 0);
}

char __license[] SEC("license") = "Apache-2.0"; // no helper here asks for the GPL
