package report

import (
	"errors"
	"slices"
	"strings"

	"lasthop/bigip/migrate"
	"lasthop/routing"
)

// Since is what changed since an earlier document of the same kind.
type Since struct {
	Input
	Time    string    `json:"time,omitempty"` // of the earlier one, as the following
	Host    string    `json:"host,omitempty"`
	BIGIP   string    `json:"bigip,omitempty"`
	Digest  string    `json:"digest,omitempty"` // of the earlier plan
	Changes []Changed `json:"changes"`          // in the order of the documents
	same    bool      // the plans have one digest
}

// Changed is one thing that is in one of two documents, or not alike in both.
type Changed struct {
	// "new", "gone", "status"; with the same status "way", or "reason" for
	// what is missing or left out
	Change string `json:"change"`
	// of a plan: listener, path, change or finding
	Kind string `json:"kind,omitempty"`
	// of a virtual server; an address, a link, a command or a code
	Name  string   `json:"name"`
	Where []string `json:"where"` // "10.0.0.1:443/tcp, /Common/external"
	Was   string   `json:"was,omitempty"`
	Is    string   `json:"is,omitempty"`
}

// place is what is compared: a virtual server and where clients connected to,
// or a part of a plan.
type place struct{ kind, name, endpoint string }

func placeOf(r *migrate.Row) place { return place{"", r.Virtual, plainEndpoint(*r)} }

// state is what is compared of a place; by is a VLAN, "" for all of them. note
// is told and not compared.
type state struct {
	place
	by, status, reason, way, before, note string
}

// String tells all but what was before: "ready: eth0 via 10.0.0.1".
func (s *state) String() string {
	words := slices.DeleteFunc([]string{s.reason, s.way, s.note},
		func(word string) bool { return word == "" })
	return strings.TrimPrefix(strings.TrimSuffix(s.status+": "+strings.Join(words, "; "), ": "),
		": ")
}

// states are those of rows, one for each VLAN.
func states(rows []migrate.Row) (out []state) {
	for i := range rows {
		r := &rows[i]
		vlans, before := r.VLANs, r.Before
		if len(vlans) == 0 {
			vlans = []string{r.VLAN}
		}
		if r.VLAN != "" {
			before = strings.ReplaceAll(before, r.VLAN, "its VLAN")
		}
		reason, way := plainFate(*r), ""
		switch r.Status {
		case migrate.Ready:
			reason, way = "", reason
		case migrate.NotApplicable:
			reason, before = r.Reason, ""
		}
		for _, vlan := range vlans {
			out = append(out, state{place: placeOf(r), by: vlan, status: r.Status,
				reason: reason, way: way, before: before})
		}
	}
	return out
}

// compare returns what changed from one list of states to another. Equal
// changes of a name are one Changed.
func compare(was, is []state) []Changed {
	old, now := map[place][]state{}, map[place][]state{}
	var places []place
	for _, s := range is {
		places, now[s.place] = append(places, s.place), append(now[s.place], s)
	}
	for _, s := range was {
		places, old[s.place] = append(places, s.place), append(old[s.place], s)
	}
	type alike struct{ kind, name, change, was, is string }
	index, seen := map[alike]int{}, map[place]bool{}
	changes := []Changed{}
	for _, p := range places {
		if seen[p] {
			continue
		}
		seen[p] = true
		for _, by := range bys(now[p], old[p]) {
			c := difference(at(old[p], by), at(now[p], by))
			if c.Change == "" {
				continue
			}
			key := alike{p.kind, p.name, c.Change, c.Was, c.Is}
			i, ok := index[key]
			if !ok {
				c.Kind, c.Name, c.Where = p.kind, p.name, []string{}
				i, index[key] = len(changes), len(changes)
				changes = append(changes, c)
			}
			where := p.endpoint
			if by != "" {
				where += ", " + by
			}
			if where != "" {
				changes[i].Where = append(changes[i].Where, where)
			}
		}
	}
	return changes
}

// bys are the VLANs of a place: "" alone if neither list has any.
func bys(lists ...[]state) (out []string) {
	for _, s := range slices.Concat(lists...) {
		if s.by != "" && !slices.Contains(out, s.by) {
			out = append(out, s.by)
		}
	}
	if len(out) == 0 {
		return []string{""}
	}
	return out
}

// at returns the state that holds for a VLAN; nil if there is none.
func at(list []state, by string) *state {
	i := slices.IndexFunc(list, func(s state) bool { return s.by == by || s.by == "" })
	if i < 0 {
		return nil
	}
	return &list[i]
}

// difference is what changed; the zero Changed for nothing.
func difference(was, is *state) (c Changed) {
	switch {
	case was == nil:
		return Changed{Change: "new", Is: is.String()}
	case is == nil:
		return Changed{Change: "gone", Was: was.String()}
	case was.status != is.status:
		c.Change = "status"
	case was.reason != is.reason:
		c.Change = "reason"
	case was.way != is.way:
		c.Change = "way"
	case was.before != is.before:
		return Changed{Change: "way", Was: was.before + " -> " + was.String(),
			Is: is.before + " -> " + is.String()}
	default:
		return c
	}
	c.Was, c.Is = was.String(), is.String()
	return c
}

// Compare fills Since from the document of an earlier `migrate -o json`; file
// is where it was read. The error names a document that is none.
func (m *Migration) Compare(file string, data []byte) error {
	var old struct {
		headDoc
		BIGIP    BIGIP         `json:"bigip"`
		Virtuals []migrate.Row `json:"virtuals"`
	}
	nameless := func(r migrate.Row) bool {
		return r.Virtual == "" || statusRank(r.Status) < 0
	}
	err := decode(file, data, "migrate", "migrate FILE...", &old, func() error {
		if old.Virtuals == nil || slices.ContainsFunc(old.Virtuals, nameless) {
			return errors.New("a virtual server without name or status, or none at all")
		}
		return nil
	})
	if err != nil {
		return err
	}
	m.Since = since(file, data, old.headDoc)
	m.Since.BIGIP = old.BIGIP.Hostname
	m.Since.Changes = compare(states(old.Virtuals), states(m.Rows))
	return nil
}

// since begins a Since from the head of an earlier document.
func since(file string, data []byte, h headDoc) *Since {
	return &Since{Input: InputOf(file, data), Time: h.Time, Host: h.Host, Digest: h.Digest}
}

// Title returns since when, and how much has changed.
func (s *Since) Title() string {
	words := []string{s.Time, s.File}
	if s.BIGIP != "" {
		words = append(words, "BIG-IP "+s.BIGIP)
	}
	if s.Host != "" {
		words = append(words, "host "+s.Host)
	}
	n := counted(s.Changes, func(c Changed) string { return c.Change })
	what := kinds(n, func(n int, kind string) string { return number(n) + " " + kind },
		"new", "gone", "status", "reason", "way")
	if what == "" {
		what = "nothing has changed"
	}
	switch {
	case s.same:
		what += "; the plan has the same digest, " + routing.ShortDigest(s.Digest)
	case s.OfPlan():
		what += "; the digest was " + routing.ShortDigest(s.Digest)
	}
	return "Since " + strings.Join(words, ", ") + ": " + what
}

// OfPlan reports whether the changes are of several kinds.
func (s *Since) OfPlan() bool { return s.Digest != "" }

// cells are change, kind if there are several, name, place, and what it was and
// is.
func (c Changed) cells() []string {
	fate := c.Was + " -> " + c.Is
	if c.Was == "" || c.Is == "" {
		fate = c.Was + c.Is
	}
	switch c.Kind {
	case "":
		return []string{c.Change, c.Name, some(c.Where, 3), fate}
	case changeKind: // a command is long
		return []string{c.Change, c.Kind, "", "", c.Name}
	}
	return []string{c.Change, c.Kind, c.Name, some(c.Where, 3), fate}
}

// text lists what changed.
func (s *Since) text(t *page) {
	if s == nil {
		return
	}
	t.printf("\n")
	t.wrap("", Escape(s.Title()))
	n := listed(len(s.Changes))
	t.table(mapped(s.Changes[:n], func(c Changed) row {
		return newRow("", mapped(c.cells(), Escape)...)
	}))
	if n < len(s.Changes) {
		t.printf("  … and %s more; all of them with -o json\n", number(len(s.Changes)-n))
	}
}
