package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"lasthop/routing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Rulesets reads what the packet filter does with packets of the families that
// a host of this namespace forwards, or of both families if the user asks for
// the mode last-hop. It reads no other families. It uses the nf_tables
// interface, since not every host with rules has the nft command. While the
// generation of nf_tables stays, it reads only that. If this user may not read
// rules, the result says so, and it is no error.
func (k *Kernel) Rulesets(h routing.Host) ([]routing.Ruleset, error) {
	var sets []routing.Ruleset
	for _, f := range routing.Families {
		if h.Forwards(f) || k.AskedLastHop {
			sets = append(sets, routing.Ruleset{Family: f})
		}
	}
	if len(sets) == 0 {
		k.nftables.forget()
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

// nftables is the last reading of nf_tables. A Kernel and its subscription
// share it.
type nftables struct {
	mu         sync.Mutex
	generation uint32
	lookups    map[routing.Family]string // nil if nothing was read
	fleeting   bool                      // they may go without a new generation
}

// readTables sets the lookups of nf_tables.
func (k *Kernel) readTables(sets []routing.Ruleset) error {
	k.nftables.mu.Lock()
	defer k.nftables.mu.Unlock()
	err := k.nftables.read(&k.conn)
	for i, s := range sets {
		sets[i].Lookup = k.nftables.lookups[s.Family]
	}
	return err
}

// read reads nf_tables, unless its generation is the one that was read last.
func (n *nftables) read(c *conn) error {
	now, err := c.generation()
	if err != nil || n.lookups != nil && n.generation == now && !n.fleeting {
		return err
	}
	lookups, fleeting, err := c.lookups()
	if err == nil {
		n.generation, n.lookups, n.fleeting = now, lookups, fleeting
	}
	return err
}

// forget makes the next read read everything. Changes before that read are not
// reported.
func (n *nftables) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lookups = nil
}

// changed reads nf_tables and returns how it differs from the last reading, ""
// if it does not. Before the first reading nothing differs.
func (n *nftables) changed(c *conn) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.lookups == nil {
		return ""
	}
	before := n.lookups
	err := n.read(c)
	if err != nil {
		return fmt.Sprintf("it cannot be read: %v", err)
	}
	for _, f := range routing.Families {
		switch now := n.lookups[f]; {
		case now == before[f]:
		case now == "":
			return "deleted or not reached any more: " + before[f]
		default:
			return now
		}
	}
	return ""
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

// lookups returns the first rule of each family that looks something up and
// that forwarded packets may meet. fleeting reports that a table with such
// rules may go with its owner, without a new generation.
func (c *conn) lookups() (first map[routing.Family]string, fleeting bool, err error) {
	var found []nftLookup
	err = c.dumpNFT(unix.NFT_MSG_GETRULE, unix.NFT_MSG_NEWRULE, func(msg []byte) error {
		if !mayLookUp(msg) {
			return nil
		}
		r, err := decodeNFTRule(msg)
		if r.lookup != "" {
			found = append(found, r)
		}
		return err
	})
	first = map[routing.Family]string{}
	if err != nil || len(found) == 0 {
		return first, false, err
	}
	chains, err := c.hookedChains()
	if err != nil {
		return nil, false, err
	}
	fleeting = slices.ContainsFunc(chains, func(h hooked) bool { return h.owned })
	met, err := forwarded(c, chains, found)
	for _, r := range found {
		for _, f := range routing.Families {
			if first[f] == "" && r.sees(f) && met[familyChain{r.nftChain, f}] {
				first[f] = r.String()
			}
		}
	}
	return first, fleeting, err
}

// dumpNFT visits all objects of a kind. If changes keep interrupting a dump,
// its last result counts: it misses only what has just come or gone.
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

// listNFT is dumpNFT for the objects of a request. It returns the messages.
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

// nftLookup is a rule of nf_tables, and what it looks up for packets that may
// be forwarded; lookup is empty for all other rules.
type nftLookup struct {
	nftRule
	lookup string
}

// String names the rule as nft does: "inet fw prerouting handle 4: fib saddr".
func (r nftLookup) String() string {
	return fmt.Sprintf("%s handle %d: %s", r.nftChain, r.handle, r.lookup)
}

// lookupNames are the words in a rule that looks something up.
var lookupNames = [][]byte{[]byte("fib\x00"), []byte("rpfilter\x00"), []byte("reject\x00"),
	[]byte("REJECT\x00"), []byte("synproxy\x00"), []byte("SYNPROXY\x00")}

// mayLookUp recognises, without decoding them, the many rules that look nothing
// up.
func mayLookUp(msg []byte) bool {
	return slices.ContainsFunc(lookupNames, func(name []byte) bool {
		return bytes.Contains(msg, name)
	})
}

func decodeNFTRule(msg []byte) (r nftLookup, err error) {
	r.nftRule, err = decodeRuleHead(msg)
	if err != nil || nftFamilies[r.family] == "" { // bridges look up no route
		return r, err
	}
	err = r.each(func(name string, data []attr) error {
		if r.lookup == "" {
			r.lookup = lookup(name, data, r.family)
		}
		return nil
	})
	return r, err
}

// lookup names what an expression makes the kernel look up with iif lo and an
// address that need not be local, or returns "". It leaves out the type of an
// address: IPv4 looks it up in table local alone (inet_dev_addr_type), and IPv6
// finds it in local, in front of lasthop's rules.
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

// listenToRules opens the socket that reports changes of nf_tables. Without the
// socket (a kernel without nf_tables, a user without the right) such changes
// count only when the host is read for another reason.
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

// followRules reports changes of what forwarded packets are looked up for,
// until ctx ends. The function that it returns waits for the end.
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

// rulesShare bounds the time spent on reading rules, one part in so many: a
// host of containers changes them again and again.
const rulesShare = 10

// readRules reads the rules after each change of nf_tables. A change may be
// anything: a deleted rule, a jump, an element of a map of verdicts, a dormant
// table. Hardly any change matters.
func (s *subscription) readRules(ctx context.Context) {
	defer s.rules.Close()
	defer context.AfterFunc(ctx, s.rules.Close)()
	const done = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWGEN // ends each change
	for ctx.Err() == nil {
		messages, _, err := s.rules.Receive()
		lost := errors.Is(err, unix.ENOBUFS)
		if err != nil && !lost && !errors.Is(err, unix.EINTR) {
			return
		}
		if !lost && !slices.ContainsFunc(messages, func(m syscall.NetlinkMessage) bool {
			return m.Header.Type == done
		}) {
			continue
		}
		start := time.Now()
		if what := s.nftables.changed(&conn{ns: s.ns, own: !s.ns.IsOpen()}); what != "" {
			s.put(Event{Kind: "ruleset", Text: "ruleset changed: " + what})
		}
		select {
		case <-ctx.Done():
		case <-time.After((rulesShare - 1) * time.Since(start)):
		}
	}
}
