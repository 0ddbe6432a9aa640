package host

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"lasthop/routing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Rulesets reads what the packet filter does with packets of the families that
// a host of this namespace forwards; of others nothing is read. It asks
// nf_tables itself, since not every host with rules has the nft command, and
// nothing but its generation while that stays. A user who may not read rules
// learns that, and it is no error.
func (k *Kernel) Rulesets(h routing.Host) ([]routing.Ruleset, error) {
	var sets []routing.Ruleset
	for _, f := range routing.Families {
		if h.Forwards(f) {
			sets = append(sets, routing.Ruleset{Family: f})
		}
	}
	if len(sets) == 0 {
		return nil, nil
	}
	err := k.readTables(sets)
	if err == nil {
		err = k.inside(func() error { return readXTables(sets) })
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		for i, s := range sets {
			sets[i] = routing.Ruleset{Family: s.Family, Unread: unix.EPERM.Error()}
		}
		return sets, nil
	}
	return sets, err
}

// nftables is what was read of a generation of nf_tables.
type nftables struct {
	generation uint32
	lookups    map[routing.Family]string // nil where nothing was read
}

// readTables sets the lookups of nf_tables.
func (k *Kernel) readTables(sets []routing.Ruleset) error {
	now, err := k.generation()
	if err != nil {
		return err
	}
	if k.nftables.lookups == nil || k.nftables.generation != now {
		lookups, err := k.lookups()
		if err != nil {
			return err
		}
		k.nftables = nftables{now, lookups}
	}
	for i, s := range sets {
		sets[i].Lookup = k.nftables.lookups[s.Family]
	}
	return nil
}

// generation returns a number that every change of nf_tables changes.
func (c *conn) generation() (n uint32, err error) {
	err = c.askNFT(unix.NFT_MSG_GETGEN, unix.NFT_MSG_NEWGEN, 0, nfMessage(0),
		func(msg []byte) error {
			_, list, err := decode[unix.Nfgenmsg](msg)
			n = find(list, unix.NFTA_GEN_ID).big()
			return err
		})
	return n, err
}

// lookups returns the first rule of each family that looks something up.
func (c *conn) lookups() (map[routing.Family]string, error) {
	local, err := c.localChains()
	if err != nil {
		return nil, err
	}
	first := map[routing.Family]string{}
	err = c.dumpNFT(unix.NFT_MSG_GETRULE, unix.NFT_MSG_NEWRULE, func(msg []byte) error {
		if !mayLookUp(msg) {
			return nil
		}
		r, err := decodeNFTRule(msg)
		if err != nil || r.lookup == "" || local[r.nftChain] {
			return err
		}
		for _, f := range routing.Families {
			if first[f] == "" && r.sees(f) {
				first[f] = r.String()
			}
		}
		return nil
	})
	return first, err
}

// localChains returns the base chains that see only what this host sends and
// what is for it. Of a chain that others jump to nobody knows that.
func (c *conn) localChains() (map[nftChain]bool, error) {
	local := map[nftChain]bool{}
	err := c.dumpNFT(unix.NFT_MSG_GETCHAIN, unix.NFT_MSG_NEWCHAIN, func(msg []byte) error {
		h, list, err := decode[unix.Nfgenmsg](msg)
		if err != nil {
			return err
		}
		hook, err := attrs(find(list, unix.NFTA_CHAIN_HOOK).value)
		// of a chain without a hook it is 0, as of one at prerouting
		n := find(hook, unix.NFTA_HOOK_HOOKNUM).big()
		if h.Nfgen_family != unix.NFPROTO_NETDEV &&
			(n == unix.NF_INET_LOCAL_IN || n == unix.NF_INET_LOCAL_OUT) {
			local[nftChain{h.Nfgen_family, find(list, unix.NFTA_CHAIN_TABLE).string(),
				find(list, unix.NFTA_CHAIN_NAME).string()}] = true
		}
		return err
	})
	return local, err
}

// dumpNFT visits all objects of a kind. A dump that changes interrupt again and
// again counts as it is: what it misses each time has just come or gone.
func (c *conn) dumpNFT(get, reply int, each func(msg []byte) error) error {
	var err error
	for range dumpTries {
		err = c.askNFT(get, reply, unix.NLM_F_DUMP, nfMessage(0), each)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return err
		}
	}
	return nil
}

// listNFT is dumpNFT of what a request asks for, and returns the messages.
func (c *conn) listNFT(get, reply int, request message) ([][]byte, error) {
	list, err := untorn(func() (list [][]byte, err error) {
		err = c.askNFT(get, reply, unix.NLM_F_DUMP, request, func(msg []byte) error {
			list = append(list, bytes.Clone(msg))
			return nil
		})
		return list, err
	})
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		err = nil
	}
	return list, err
}

// nfMessage begins a request about a family (NFPROTO_*), 0 for all.
func nfMessage(family uint8) message {
	return newMessage(unix.Nfgenmsg{Nfgen_family: family})
}

// askNFT makes a request of nf_tables and visits the answers; a kernel without
// it gives none.
func (c *conn) askNFT(get, reply, flags int, m message, each func(msg []byte) error) error {
	const subsystem = unix.NFNL_SUBSYS_NFTABLES << 8
	if err := c.fault(subsystem | get); err != nil {
		return err
	}
	socket, err := nl.GetNetlinkSocketAt(c.enter(), netns.None(), unix.NETLINK_NETFILTER)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer socket.Close()
	wait := unix.NsecToTimeval(int64(timeout))
	if err := socket.SetReceiveTimeout(&wait); err != nil {
		return err
	}
	req := nl.NewNetlinkRequest(subsystem|get, flags)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: {Socket: socket}}
	req.AddRawData(m.data)
	var bad error
	err = req.ExecuteIter(unix.NETLINK_NETFILTER, uint16(subsystem|reply),
		func(msg []byte) bool {
			bad = errors.Join(bad, each(msg))
			return bad == nil
		})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		err = nil
	}
	return errors.Join(err, bad)
}

type nftChain struct {
	family      uint8 // NFPROTO_*
	table, name string
}

var nftFamilies = map[uint8]string{unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip",
	unix.NFPROTO_IPV6: "ip6", unix.NFPROTO_NETDEV: "netdev"}

// String names a chain as nft does: "inet fw prerouting".
func (c nftChain) String() string {
	return fmt.Sprintf("%s %s %s", nftFamilies[c.family], c.table, c.name)
}

// nftRule is a rule of nf_tables.
type nftRule struct {
	nftChain
	handle      uint64
	expressions []attr
}

// nftLookup is a rule of nf_tables, and what it looks up for packets that may
// be forwarded ones; lookup is empty for all other rules.
type nftLookup struct {
	nftRule
	lookup string
	only   uint8 // NFPROTO_* that the rule has asked for; 0 for any
}

// String names the rule as nft does: "inet fw prerouting handle 4: fib saddr".
func (r nftLookup) String() string {
	return fmt.Sprintf("%s handle %d: %s", r.nftChain, r.handle, r.lookup)
}

// sees reports whether the rule sees packets of a family.
func (r nftLookup) sees(f routing.Family) bool {
	proto := uint8(unix.NFPROTO_IPV4)
	if f == routing.IPv6 {
		proto = unix.NFPROTO_IPV6
	}
	if r.family == unix.NFPROTO_IPV4 || r.family == unix.NFPROTO_IPV6 {
		return r.family == proto
	}
	return r.only == 0 || r.only == proto
}

// lookupNames are the words in a rule that looks something up.
var lookupNames = [][]byte{[]byte("fib\x00"), []byte("rpfilter\x00"), []byte("reject\x00"),
	[]byte("REJECT\x00"), []byte("synproxy\x00"), []byte("SYNPROXY\x00")}

// mayLookUp tells the many rules that look nothing up, without taking them
// apart.
func mayLookUp(msg []byte) bool {
	return slices.ContainsFunc(lookupNames, func(name []byte) bool {
		return bytes.Contains(msg, name)
	})
}

// decodeRuleHead reads all of a rule but what is in its expressions.
func decodeRuleHead(msg []byte) (r nftRule, err error) {
	h, list, err := decode[unix.Nfgenmsg](msg)
	if err != nil {
		return r, err
	}
	r.nftChain = nftChain{h.Nfgen_family, find(list, unix.NFTA_RULE_TABLE).string(),
		find(list, unix.NFTA_RULE_CHAIN).string()}
	if n := find(list, unix.NFTA_RULE_HANDLE).value; len(n) == 8 {
		r.handle = binary.BigEndian.Uint64(n)
	}
	r.expressions, err = attrs(find(list, unix.NFTA_RULE_EXPRESSIONS).value)
	return r, err
}

// expression splits an expression into its name and its data.
func expression(e attr) (name string, data []attr, err error) {
	expr, err1 := attrs(e.value)
	data, err2 := attrs(find(expr, unix.NFTA_EXPR_DATA).value)
	return find(expr, unix.NFTA_EXPR_NAME).string(), data, errors.Join(err1, err2)
}

func decodeNFTRule(msg []byte) (r nftLookup, err error) {
	r.nftRule, err = decodeRuleHead(msg)
	if nftFamilies[r.family] == "" { // bridges ask for no route
		return r, nil
	}
	asked := false // for the family, by the expression before
	for _, e := range r.expressions {
		name, data, err := expression(e)
		if err != nil {
			return r, err
		}
		if value := find(data, unix.NFTA_CMP_DATA).value; name == "cmp" && asked &&
			find(data, unix.NFTA_CMP_OP).big() == unix.NFT_CMP_EQ && len(value) > 4 {
			r.only = value[4] // behind the header of NFTA_DATA_VALUE
		}
		asked = name == "meta" &&
			find(data, unix.NFTA_META_KEY).big() == unix.NFT_META_NFPROTO
		if r.lookup = lookup(name, data, r.family); r.lookup != "" {
			break
		}
	}
	return r, err
}

// lookup names what an expression has the kernel look up with iif lo and an
// address that need not be local, or returns "". The type of an address is not
// among it: IPv4 asks table local alone (inet_dev_addr_type), and what IPv6
// finds in local is found in front of our rules.
func lookup(name string, data []attr, family uint8) string {
	switch name {
	case "fib": // nft_fib4_eval, nft_fib6_eval
		if find(data, unix.NFTA_FIB_RESULT).big() == unix.NFT_FIB_RESULT_ADDRTYPE {
			return ""
		}
		if find(data, unix.NFTA_FIB_FLAGS).big()&unix.NFTA_FIB_F_DADDR != 0 {
			return "fib daddr"
		}
		return "fib saddr"
	case "match":
		return xtLookup(find(data, unix.NFTA_MATCH_NAME).string(), nil, family)
	case "target":
		return xtLookup(find(data, unix.NFTA_TARGET_NAME).string(),
			find(data, unix.NFTA_TARGET_INFO).value, family)
	case "reject": // nf_send_reset: its source is the other end's
		if find(data, unix.NFTA_REJECT_TYPE).big() == unix.NFT_REJECT_TCP_RST &&
			family != unix.NFPROTO_NETDEV {
			return "reject with tcp reset"
		}
	case "synproxy": // synproxy_send_tcp: it answers for the other end
		return "synproxy"
	}
	return ""
}

// xtLookup is lookup of a match or target of iptables, by its name and what is
// in it.
func xtLookup(name string, info []byte, family uint8) string {
	reset := uint32(7) // IPT_TCP_RESET
	if family == unix.NFPROTO_IPV6 {
		reset = 6 // IP6T_TCP_RESET
	}
	switch {
	case name == "rpfilter", name == "SYNPROXY": // rpfilter_mt, synproxy_send_tcp
		return name
	case name == "REJECT" && len(info) >= 4 && native.Uint32(info) == reset:
		return "REJECT with tcp-reset"
	}
	return ""
}

// groupRules is NFNLGRP_NFTABLES.
const groupRules = 7

// listenToRules opens the socket that tells of changes of nf_tables. Without
// one (a kernel without nf_tables, a user who may not) they count when the host
// is read for another reason.
func (s *subscription) listenToRules() {
	socket, err := nl.SubscribeAt(s.ns, netns.None(), unix.NETLINK_NETFILTER, groupRules)
	if err != nil {
		return
	}
	if socket.SetReceiveBufferSize(s.buffer, true) != nil {
		_ = socket.SetReceiveBufferSize(s.buffer, false)
	}
	s.rules = socket
}

// followRules reports new rules that may look up forwarded packets until ctx
// ends; all others, and elements of sets, which container hosts change all the
// time, are passed over. A rule that goes lets covers be wider, which can wait.
// The function that it returns waits for the end.
func (s *subscription) followRules(ctx context.Context) (wait func()) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if s.rules != nil {
			s.readRules(ctx)
		}
	}()
	return func() { <-ended }
}

func (s *subscription) readRules(ctx context.Context) {
	defer s.rules.Close()
	defer context.AfterFunc(ctx, s.rules.Close)()
	for ctx.Err() == nil {
		messages, _, err := s.rules.Receive()
		if errors.Is(err, unix.ENOBUFS) {
			s.lost("events of nf_tables lost: the kernel had no room to queue them")
		} else if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		for _, m := range messages {
			s.ruleset(m)
		}
	}
}

func (s *subscription) ruleset(m syscall.NetlinkMessage) {
	const added = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWRULE
	if m.Header.Type != added || !mayLookUp(m.Data) {
		return
	}
	if r, err := decodeNFTRule(m.Data); err != nil || r.lookup != "" {
		s.put(Event{Kind: "ruleset", Text: "ruleset changed: " + r.String()})
	}
}
