package host

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"lasthop/routing"

	"golang.org/x/sys/unix"
)

// tcm is struct tcmsg.
type tcm struct {
	_      [4]uint8 // the family, and padding
	index  int32
	handle uint32
	parent uint32
	info   uint32 // a filter's preference and, in network order, its protocol
}

// Numbers of the qdisc clsact and of its filters for incoming packets, which
// x/sys has no names for.
const (
	clsact        = 0xfffffff1 // TC_H_CLSACT, also that of the older qdisc ingress
	clsactHandle  = 0xffff0000
	clsactIngress = 0xfffffff2 // TC_H_MIN_INGRESS below it

	filterHandle = 1
	directAction = 1 // TCA_BPF_FLAG_ACT_DIRECT

	tcaKind, tcaOptions               = 1, 2
	tcaBPFFD, tcaBPFName, tcaBPFFlags = 6, 7, 8
)

// LastHop is what package lasthop does for a Kernel: the programs, and the maps
// that they share. Its file descriptors stay open.
type LastHop interface {
	// Support reports whether the mode is available. attached are the tags
	// of the programs that routes and filters have now.
	Support(attached []string) routing.LastHopSupport
	// Learn returns the file descriptor of the filter's program, and its
	// tag.
	Learn() (program int, tag string, err error)
	// Answer does the same for the routes' program. That program uses maps
	// that hold the connections of the programs before it.
	Answer() (program int, tag string, err error)
	// InFront returns the names of the tcx programs at the ingress of a
	// link of this thread's namespace. It returns none if the kernel has no
	// tcx or this user may not ask. A hidden name is "".
	InFront(link int) []string
	// Wanted returns the listeners in the map; none if there is no map, or
	// none that this user may read.
	Wanted() ([]routing.Wanted, error)
	SetWanted(w routing.Wanted, remove bool) error
}

var errNoLastHop = errors.New("the programs of last-hop are not available")

// program returns the file descriptor of a program of that name.
func (w *writing) program(name string, load func(LastHop) (int, string, error)) (int, error) {
	if w.lastHop == nil {
		return 0, errNoLastHop
	}
	program, tag, err := load(w.lastHop)
	if err == nil && name != routing.LastHopPrefix+tag {
		err = fmt.Errorf("attach %s: the programs that are loaded are %s%s", name,
			routing.LastHopPrefix, tag)
	}
	return program, err
}

// readLastHop reads what the mode last-hop has in addition to routes.
func (k *Kernel) readLastHop(r *reading) (err error) {
	if err := r.readFilters(); err != nil {
		return fmt.Errorf("read filters: %w", err)
	}
	if k.LastHop == nil {
		return nil
	}
	h := &r.host
	if h.Wanted, err = k.LastHop.Wanted(); err != nil {
		return fmt.Errorf("read the listeners of last-hop: %w", err)
	}
	var attached []string
	for _, f := range h.Filters {
		if f.Owned() {
			attached = append(attached,
				strings.TrimPrefix(f.Name, routing.LastHopPrefix))
		}
	}
	for _, route := range h.Routes {
		if route.Encap != "" {
			attached = append(attached,
				strings.TrimPrefix(route.Encap, routing.LastHopPrefix))
		}
	}
	slices.Sort(attached)
	h.LastHop = k.LastHop.Support(slices.Compact(attached))
	if !k.AskedLastHop || !h.LastHop.Known || h.LastHop.Missing != "" {
		return nil
	}
	return k.inside(func() error {
		for _, l := range h.Links {
			for _, name := range k.LastHop.InFront(l.Index) {
				h.Filters = append(h.Filters,
					routing.Filter{Link: l.Name, Kind: "tcx", Name: name})
			}
		}
		return nil
	})
}

// Numbers of `encap bpf` (LWTUNNEL_ENCAP_BPF), which x/sys has no names for.
const (
	encapBPF                     = 6
	lwtXmit                      = 3
	lwtProgramFD, lwtProgramName = 1, 2
)

// putAnswer puts `encap bpf xmit` with a program of lasthop.
func (m *message) putAnswer(name string, program int) {
	if name == "" {
		return
	}
	var p, encap message
	p.putUint32(lwtProgramFD, uint32(program))
	p.putString(lwtProgramName, name)
	encap.put(lwtXmit|unix.NLA_F_NESTED, p.data)
	m.put(unix.RTA_ENCAP|unix.NLA_F_NESTED, encap.data)
	m.put(unix.RTA_ENCAP_TYPE, native.AppendUint16(nil, encapBPF))
}

// answerOf returns the name of the program of `encap bpf xmit`, if it is
// lasthop's and the only one there.
func answerOf(encap []byte) string {
	list, err := attrs(encap)
	if err != nil || len(list) != 1 || list[0].kind != lwtXmit {
		return ""
	}
	program, err := attrs(list[0].value)
	name := find(program, lwtProgramName).string()
	if err != nil || !strings.HasPrefix(name, routing.LastHopPrefix) {
		return ""
	}
	return name
}

// readFilters reads the filters that incoming packets meet, of each link that
// has any.
func (r *reading) readFilters() error {
	qdiscs, err := r.dump(unix.RTM_GETQDISC, unix.RTM_NEWQDISC, newMessage(tcm{}))
	if err != nil {
		return err
	}
	for _, m := range qdiscs {
		h, _, err := split[tcm](m)
		if err != nil {
			return err
		}
		if h.parent != clsact {
			continue
		}
		link, err := r.link(uint32(h.index))
		if err != nil {
			continue // it came since the links were read
		}
		filters, err := r.filtersOf(link, h.index)
		if err != nil {
			return err
		}
		r.host.Filters = append(r.host.Filters, filters...)
	}
	return nil
}

// filtersOf reads the filters of a link that has a qdisc for them.
func (r *reading) filtersOf(link string, index int32) (list []routing.Filter, err error) {
	filters, err := r.dump(unix.RTM_GETTFILTER, unix.RTM_NEWTFILTER,
		newMessage(tcm{index: index, parent: clsactIngress}))
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) {
		return nil, nil // the link, or its qdisc, has gone
	}
	if err != nil {
		return nil, err
	}
	for _, m := range filters {
		h, attributes, err := decode[tcm](m)
		if err != nil {
			return nil, fmt.Errorf("decode filter: %w", err)
		}
		f, ok, err := decodeFilter(h, attributes, link)
		if err != nil {
			return nil, err
		}
		if ok {
			list = append(list, f)
		}
	}
	return list, nil
}

// decodeFilter reads the attributes of a filter. ok is false for a filter
// without a handle: that is the head of a preference.
func decodeFilter(h tcm, list []attr, link string) (f routing.Filter, ok bool, err error) {
	f = routing.Filter{Link: link, Pref: uint16(h.info >> 16), Handle: h.handle,
		Kind: find(list, tcaKind).string()}
	if f.Kind == "bpf" {
		options, err := attrs(find(list, tcaOptions).value)
		if err != nil {
			return f, false, fmt.Errorf("decode filter: %w", err)
		}
		f.Name = find(options, tcaBPFName).string()
	}
	return f, h.handle != 0, nil
}

// setFilter attaches the filter, or puts the current program into lasthop's
// filter that is there.
func (w *writing) setFilter(f routing.Filter) error {
	if err := w.needLinks(); err != nil {
		return err
	}
	learn, err := w.program(f.Name, LastHop.Learn)
	if err != nil {
		return err
	}
	index := w.index[f.Link]
	if index == 0 {
		return fmt.Errorf("find link %s: %w", f.Link, unix.ENODEV)
	}
	qdisc := newMessage(tcm{index: int32(index), handle: clsactHandle, parent: clsact})
	qdisc.putString(tcaKind, "clsact")
	err = w.write(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_EXCL, qdisc.data)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add qdisc clsact: %w", err)
	}
	m := filterMessage(f, index)
	m.putString(tcaKind, "bpf")
	var options message
	options.putUint32(tcaBPFFD, uint32(learn))
	options.putString(tcaBPFName, f.Name)
	options.putUint32(tcaBPFFlags, directAction)
	m.put(tcaOptions|unix.NLA_F_NESTED, options.data)
	err = w.write(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE|unix.NLM_F_EXCL, m.data)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	switch there, err := w.filterAt(f, index); {
	case err != nil:
		return err
	case !there.Owned():
		return fmt.Errorf("replace filter %v: %w", there, errForeign)
	}
	return w.write(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE, m.data)
}

var errForeign = errors.New("another program has attached it")

// filterAt returns the filter at a place, the zero Filter if there is none. The
// kernel would silently replace or delete another program's filter there.
func (w *writing) filterAt(f routing.Filter, index int) (routing.Filter, error) {
	list, err := w.filtersOf(f.Link, int32(index))
	for _, there := range list {
		if there.Pref == f.Pref && there.Handle == handleOf(f) {
			return there, nil
		}
	}
	return routing.Filter{}, err
}

func handleOf(f routing.Filter) uint32 { return cmp.Or(f.Handle, filterHandle) }

// delFilter deletes a filter of lasthop, and leaves the qdisc.
func (w *writing) delFilter(f routing.Filter) error {
	if err := w.needLinks(); err != nil {
		return err
	}
	index := w.index[f.Link]
	if index == 0 {
		return nil // it went with its link
	}
	if there, err := w.filterAt(f, index); err != nil || !there.Owned() {
		return err // it is gone, or another program's is there
	}
	m := filterMessage(f, index)
	m.putString(tcaKind, "bpf")
	err := w.write(unix.RTM_DELTFILTER, 0, m.data)
	return gone(gone(err, unix.ENOENT), unix.EINVAL) // EINVAL: without a qdisc
}

func filterMessage(f routing.Filter, index int) message {
	const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in network order
	return newMessage(tcm{index: int32(index), handle: handleOf(f), parent: clsactIngress,
		info: uint32(f.Pref)<<16 | all})
}
