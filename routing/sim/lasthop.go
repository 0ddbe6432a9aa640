package sim

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"lasthop/routing"
)

// lastHop carries out what the mode last-hop needs in addition to routes and
// rules: the lines that routing.Op prints, and
//
//	last-hop tag 5b2            the programs that the host can have
//	last-hop missing no CAP_BPF why it can have none
//
// No script has them: a kernel needs the programs themselves.
func lastHop(h *routing.Host, words []string) error {
	switch {
	case words[0] == "tc" && slices.Equal(words[1:3], []string{"filter", "add"}):
		return filterAdd(h, words[3:])
	case words[1] == "tag":
		h.LastHop = routing.LastHopSupport{Tag: words[2], Known: true}
	case words[1] == "missing":
		h.LastHop = routing.LastHopSupport{Missing: strings.Join(words[2:], " "),
			Known: true}
	case words[1] == "listener" && len(words) == 5 && words[2] == "add":
		w := routing.Wanted{Transport: routing.Transport(words[3])}
		end, err := netip.ParseAddrPort(words[4])
		if w.Addr, w.Port = end.Addr(), end.Port(); err != nil {
			w.Addr, err = netip.ParseAddr(words[4])
		}
		h.Wanted = append(h.Wanted, w)
		return err
	default:
		return fmt.Errorf("unknown command")
	}
	return nil
}

// filterAdd puts a filter where the kernel would, by preference.
func filterAdd(h *routing.Host, args []string) error {
	args = slices.DeleteFunc(slices.Clone(args), func(w string) bool {
		return w == "ingress" || w == "direct-action"
	})
	o, err := options(args, "dev pref name", "bpf tcx matchall flower u32")
	if err != nil {
		return err
	}
	f := routing.Filter{Link: o["dev"], Name: o["name"]}
	for _, kind := range []string{"bpf", "tcx", "matchall", "flower", "u32"} {
		if _, ok := o[kind]; ok {
			f.Kind = kind
		}
	}
	if f.Kind != "tcx" {
		pref, err := strconv.ParseUint(o["pref"], 10, 16)
		if err != nil {
			return err
		}
		f.Pref, f.Handle = uint16(pref), 1
		for _, x := range h.Filters {
			if x.Link == f.Link && x.Pref == f.Pref {
				f.Handle++
			}
		}
	}
	i := slices.IndexFunc(h.Filters, func(x routing.Filter) bool {
		return x.Link == f.Link && x.Pref > f.Pref
	})
	if i < 0 {
		i = len(h.Filters)
	}
	h.Filters = slices.Insert(h.Filters, i, f)
	return nil
}
