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
	offsets       int    // in an entry, those of its target and of the next entry
	matches       int    // in an entry, its matches
}

var xtablesOf = map[routing.Family]xtables{
	routing.IPv4: {"ip_tables_names", unix.AF_INET, unix.IPPROTO_IP, unix.NFPROTO_IPV4,
		88, 112},
	routing.IPv6: {"ip6_tables_names", unix.AF_INET6, unix.IPPROTO_IPV6, unix.NFPROTO_IPV6,
		140, 168},
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

// readXTables takes in the rules of iptables-legacy in the thread's namespace,
// of those tables alone that rpfilter, REJECT and SYNPROXY may stand in. They
// are asked for by socket options, since the command may be missing or another
// one. What cannot be taken apart may be anything, so it counts.
func readXTables(sets []routing.Ruleset) error {
	for i, s := range sets {
		x := xtablesOf[s.Family]
		data, err := os.ReadFile("/proc/thread-self/net/" + x.names)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		there := strings.Fields(string(data))
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

// lookup returns what the first rule of a table does that looks something up,
// but for rules at input and output alone.
func (x xtables) lookup(table string) (string, error) {
	fd, err := unix.Socket(x.domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	for try := 1; ; try++ {
		var info xtInfo
		copy(info.name[:], table)
		err := x.option(fd, xtGetInfo, unsafe.Slice((*byte)(unsafe.Pointer(&info)),
			unsafe.Sizeof(info)))
		if err != nil {
			return "", err
		}
		entries := make([]byte, xtHeader+int(info.size))
		copy(entries, info.name[:])
		native.PutUint32(entries[len(info.name):], info.size)
		err = x.option(fd, xtGetEntries, entries)
		if err == nil {
			return x.find(info, entries[xtHeader:])
		}
		if !errors.Is(err, unix.EAGAIN) || try == xtTries {
			return "", err
		}
	}
}

// option asks for a socket option that is as large as b.
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
	for at := 0; at < len(entries); {
		rule := entries[at:]
		if len(rule) < x.matches {
			return "", errShort
		}
		target := int(native.Uint16(rule[x.offsets:]))
		next := int(native.Uint16(rule[x.offsets+2:]))
		if target < x.matches || next <= target || next > len(rule) {
			return "", errShort
		}
		for part := x.matches; part < next && !info.local(at); {
			what, size, err := x.part(rule[part:next])
			if what != "" || err != nil {
				return what, err
			}
			part += size
		}
		at += next
	}
	return "", nil
}

// part reads a match or a target (struct xt_entry_match, xt_entry_target).
func (x xtables) part(b []byte) (what string, size int, err error) {
	const header = 32
	if len(b) < header {
		return "", 0, errShort
	}
	size = int(native.Uint16(b))
	if size < header || size > len(b) {
		return "", 0, errShort
	}
	name, _, _ := bytes.Cut(b[2:header-1], []byte{0})
	return xtLookup(string(name), b[header:size], x.proto), size, nil
}

// local reports whether the rule at an offset stands at input or output.
func (i xtInfo) local(at int) bool {
	return slices.ContainsFunc([]int{unix.NF_INET_LOCAL_IN, unix.NF_INET_LOCAL_OUT},
		func(hook int) bool {
			return i.hooks&(1<<hook) != 0 && int(i.entry[hook]) <= at &&
				at <= int(i.underflow[hook])
		})
}
