package host

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"unsafe"

	"lasthop/routing"

	"golang.org/x/sys/unix"
)

// xtables is iptables-legacy of a family: where its rules are, and how they
// look (struct ipt_entry, struct ip6t_entry).
type xtables struct {
	names         string // the file that lists the tables of a namespace
	domain, level int    // of a socket, and of its options
	proto         uint8  // NFPROTO_*
	// offsets in an entry
	dst, mask, in, protocol, inverted int // what a packet must have
	offsets                           int // those of its target and of the next entry
	matches                           int // its matches
}

var xtablesOf = map[routing.Family]xtables{
	routing.IPv4: {"ip_tables_names", unix.AF_INET, unix.IPPROTO_IP, unix.NFPROTO_IPV4,
		4, 12, 16, 80, 83, 88, 112},
	routing.IPv6: {"ip6_tables_names", unix.AF_INET6, unix.IPPROTO_IPV6, unix.NFPROTO_IPV6,
		16, 48, 64, 128, 132, 140, 168},
}

const (
	xtGetInfo    = 64 // IPT_SO_GET_INFO and IP6T_SO_GET_INFO
	xtGetEntries = 65 // IPT_SO_GET_ENTRIES and IP6T_SO_GET_ENTRIES
	xtHeader     = 40 // of the entries in a struct ipt_get_entries
	xtTries      = 5  // rules may change between the two questions
)

// xtInfo is struct ipt_getinfo.
type xtInfo struct {
	name             [32]byte
	hooks            uint32
	entry, underflow [5]uint32 // the first and the last rule at each hook
	entries, size    uint32
}

// readXTables reads the rules of iptables-legacy in the thread's namespace, but
// only of the tables that rpfilter, REJECT and SYNPROXY may stand in. It uses
// socket options, since the command may be missing or another one. A rule that
// it cannot decode may be anything, so it counts.
func readXTables(sets []routing.Ruleset) error {
	for i, s := range sets {
		x := xtablesOf[s.Family]
		there, err := x.tables()
		if err != nil {
			return err
		}
		for _, table := range []string{"raw", "mangle", "filter"} {
			if sets[i].Lookup != "" || !slices.Contains(there, table) {
				continue
			}
			what, err := x.lookup(table)
			switch {
			case errors.Is(err, unix.EPERM):
				return err
			case err != nil:
				what = fmt.Sprintf("its rules cannot be read: %v", err)
			}
			if what != "" {
				sets[i].Lookup = "iptables-legacy " + table + ": " + what
			}
		}
	}
	return nil
}

// tables returns the names of the tables that the thread's namespace has.
func (x xtables) tables() ([]string, error) {
	data, err := os.ReadFile("/proc/thread-self/net/" + x.names)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return strings.Fields(string(data)), err
}

// lookup returns what the first rule of a table looks up, among the rules that
// look something up and that forwarded packets may meet.
func (x xtables) lookup(table string) (string, error) {
	info, entries, err := x.read(table)
	if err != nil {
		return "", err
	}
	return x.find(info, entries)
}

// read returns the entries of a table.
func (x xtables) read(table string) (info xtInfo, entries []byte, err error) {
	fd, err := unix.Socket(x.domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return info, nil, err
	}
	defer unix.Close(fd)
	for try := 1; ; try++ {
		info = xtInfo{}
		copy(info.name[:], table)
		err := x.option(fd, xtGetInfo, unsafe.Slice((*byte)(unsafe.Pointer(&info)),
			unsafe.Sizeof(info)))
		if err != nil {
			return info, nil, err
		}
		entries := make([]byte, xtHeader+int(info.size))
		copy(entries, info.name[:])
		native.PutUint32(entries[len(info.name):], info.size)
		err = x.option(fd, xtGetEntries, entries)
		if err == nil {
			return info, entries[xtHeader:], nil
		}
		if !errors.Is(err, unix.EAGAIN) || try == xtTries {
			return info, nil, err
		}
	}
}

// option reads a socket option that is as large as b.
func (x xtables) option(fd, name int, b []byte) error {
	size := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(x.level),
		uintptr(name), uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func (x xtables) find(info xtInfo, entries []byte) (string, error) {
	type found struct {
		chain int
		what  string
	}
	var all []found
	leads := map[int][]int{}
	err := x.each(info, entries, func(e xtEntry) error {
		return x.parts(e.entry, func(p xtPart) {
			if what := xtLookup(p.name, p.info, x.proto); what != "" {
				all = append(all, found{e.chain, what})
			}
			if to, ok := p.leads(e); ok {
				leads[e.chain] = append(leads[e.chain], to)
			}
		})
	})
	var from []int
	for hook := range info.entry {
		if hook != unix.NF_INET_LOCAL_IN && hook != unix.NF_INET_LOCAL_OUT &&
			info.hooks&(1<<hook) != 0 {
			from = append(from, int(info.entry[hook]))
		}
	}
	met := reached(from, func(chain int) []int { return leads[chain] })
	for _, f := range all {
		if met[f.chain] {
			return f.what, err
		}
	}
	return "", err
}

// xtEntry is an entry with its place.
type xtEntry struct {
	at, target int // where it begins, and where in it its target does
	entry      []byte
	chain      int    // where its chain begins, by which rules name it
	name       string // of the chain
	number     int    // in it, from 1 on; 0 for an entry that is no rule
}

// hookNames are iptables' names of chains, by hook.
var hookNames = [...]string{unix.NF_INET_PRE_ROUTING: "PREROUTING",
	unix.NF_INET_LOCAL_IN: "INPUT", unix.NF_INET_FORWARD: "FORWARD",
	unix.NF_INET_LOCAL_OUT: "OUTPUT", unix.NF_INET_POST_ROUTING: "POSTROUTING"}

// each visits the entries of a table. A chain of the administrator begins
// behind an entry with the target ERROR, which names it.
func (x xtables) each(info xtInfo, entries []byte, visit func(xtEntry) error) error {
	e := xtEntry{}
	for next := 0; e.at < len(entries); e.at += next {
		rule := entries[e.at:]
		if len(rule) < x.matches {
			return errShort
		}
		e.target = int(native.Uint16(rule[x.offsets:]))
		next = int(native.Uint16(rule[x.offsets+2:]))
		if e.target < x.matches || next <= e.target || next > len(rule) {
			return errShort
		}
		e.entry = rule[:next]
		for hook, name := range hookNames {
			if info.hooks&(1<<hook) != 0 && int(info.entry[hook]) == e.at {
				e.chain, e.name, e.number = e.at, name, 0
			}
		}
		e.number++
		err := x.parts(e.entry, func(p xtPart) {
			if p.at == e.target && p.name == "ERROR" {
				chain, _, _ := bytes.Cut(p.info, []byte{0})
				e.chain, e.name, e.number = e.at+next, string(chain), 0
			}
		})
		if err == nil && e.number > 0 {
			err = visit(e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// xtPart is a match or a target (struct xt_entry_match, xt_entry_target).
type xtPart struct {
	at       int // in its entry
	name     string
	revision uint8
	info     []byte
}

// parts visits the matches of an entry, then its target.
func (x xtables) parts(entry []byte, visit func(xtPart)) error {
	const header = 32
	for at := x.matches; at < len(entry); {
		b := entry[at:]
		if len(b) < header {
			return errShort
		}
		size := int(native.Uint16(b))
		if size < header || size > len(b) {
			return errShort
		}
		name, _, _ := bytes.Cut(b[2:header-1], []byte{0})
		visit(xtPart{at, string(name), b[header-1], b[header:size]})
		at += size
	}
	return nil
}

// leads returns the chain that a target leads to, if it is a standard target
// that leads to one (struct xt_standard_target). Verdicts are less than 0, and
// a rule without a verdict leads to the next entry.
func (p xtPart) leads(from xtEntry) (chain int, ok bool) {
	if p.at != from.target || p.name != "" || len(p.info) < 4 {
		return 0, false
	}
	chain = int(int32(native.Uint32(p.info)))
	return chain, chain >= 0 && chain != from.at+len(from.entry)
}

// natChains reads what iptables-legacy has at prerouting in the thread's
// namespace. The offset of a chain's beginning names it, as in the rules.
func (x xtables) natChains() (*natWalk, error) {
	there, err := x.tables()
	if err != nil || !slices.Contains(there, "nat") {
		return &natWalk{}, err
	}
	info, entries, err := x.read("nat")
	if err != nil {
		return nil, err
	}
	chains, err := x.chains(info, entries)
	return &natWalk{base: []string{fmt.Sprint(info.entry[unix.NF_INET_PRE_ROUTING])},
		rules: func(chain string) ([]natRule, error) { return chains[chain], nil }}, err
}

// command is the name of the family's iptables.
func (x xtables) command() string {
	if x.proto == unix.NFPROTO_IPV6 {
		return "ip6tables"
	}
	return "iptables"
}

// chains reads table nat.
func (x xtables) chains(info xtInfo, entries []byte) (map[string][]natRule, error) {
	chains := map[string][]natRule{}
	err := x.each(info, entries, func(e xtEntry) error {
		r := natReader{come: x.packets(e.entry),
			origin: fmt.Sprintf("%s-legacy: %s rule %d", x.command(), e.name, e.number)}
		err := x.parts(e.entry, func(p xtPart) {
			if p.at < e.target {
				if list, ok := xtMatch(p.name, p.revision, p.info,
					x.proto == unix.NFPROTO_IPV6); ok {
					r.only(list...)
				}
			} else if to, ok := p.leads(e); ok {
				r.jump(fmt.Sprint(to), routing.DNAT{})
			} else if to, ok := xtTarget(p.name, p.revision, p.info,
				x.proto == unix.NFPROTO_IPV6); ok {
				r.send(to)
			}
		})
		key := fmt.Sprint(e.chain)
		chains[key] = append(chains[key], r.rules...)
		return err
	})
	return chains, err
}

// packets are the conditions in the entry itself (struct ipt_ip, ip6t_ip6).
func (x xtables) packets(entry []byte) []routing.DNAT {
	// IPT_INV_VIA_IN, IPT_INV_DSTIP, IPT_INV_PROTO
	const invertedIn, invertedDst, invertedProtocol = 1, 0x10, 0x40
	size, inverted := x.dst, entry[x.inverted] // the source is in front
	r := natReader{come: []routing.DNAT{{Addrs: wholeOf[x.proto]}}}
	if ones, rest := leadingOnes(entry[x.mask : x.mask+size]); !rest {
		to := register{field: "daddr", size: size, bits: ones, six: size == 16}
		s, _ := to.spread(entry[x.dst:], entry[x.dst:])
		intervals := []interval{s}
		if inverted&invertedDst != 0 {
			intervals = outside(intervals)
		}
		list, _ := to.conditions(intervals)
		r.only(list...)
	}
	// the masks of both links are behind the names of both
	mask := entry[x.in+2*unix.IFNAMSIZ:][:unix.IFNAMSIZ]
	if ones, rest := leadingOnes(mask); ones > 0 && !rest {
		in := linkNamed(entry[x.in : x.in+ones/8])
		if inverted&invertedIn != 0 {
			in = "!" + in
		}
		r.only(routing.DNAT{In: in})
	}
	switch n := native.Uint16(entry[x.protocol:]); {
	case n == 0 || n > 255:
	case inverted&invertedProtocol == 0:
		r.only(toProtocol(uint8(n)))
	case n == unix.IPPROTO_TCP || n == unix.IPPROTO_UDP:
		r.only(notProtocols(n == unix.IPPROTO_TCP, n == unix.IPPROTO_UDP)...)
	}
	return r.come
}
