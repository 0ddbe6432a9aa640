// Package settings turns what the user decided, on the command line and in
// lasthop.yaml, into a routing.Policy, and back into flags: for a capture, and
// for the command lines that a report ends with. Flags win over the file. It
// reports every mistake, not only the first, with file:line or the flag.
package settings

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"lasthop/internal/hint"
	"lasthop/routing"
)

// DefaultFile is read if it is there.
const DefaultFile = "/etc/lasthop/lasthop.yaml"

// Settings are what the user decided.
type Settings struct {
	Policy     routing.Policy
	Confs      []string // main files of NGINX; none: of every NGINX that runs
	Listens    []routing.Listener
	TableNames bool
	// treat the kernel as fit for the mode last-hop if nothing shows
	// otherwise
	TrustKernel bool
	Metrics     string // address of the endpoint, "" for none
	// names by which clients may address it, besides addresses and the
	// host's own
	MetricsHosts []string
	PlusAPI      string // address of NGINX Plus' API, "" for none
	File         string // lasthop.yaml, "" if there is none
	Text         string // of File, as it was read
}

// Flags are the flags that decide, as given.
type Flags struct {
	Confs, Listens                                   []string
	Gateways, Returns, Addresses, Direct, FailClosed []string
	File                                             string // --config; "" is none
	FileGiven                                        bool   // --config was on the command line
	Once                                             bool   // File is read once: may be a pipe
}

// Flag is one flag that decides, with its values.
type Flag struct {
	Name   string
	Values []string
}

// List returns the flags by name, in the order of help.
func (f Flags) List() []Flag {
	config := Flag{Name: "config"}
	if f.FileGiven {
		config.Values = []string{f.File}
	}
	return []Flag{{"nginx-conf", f.Confs}, {"listen", f.Listens}, {"gateway", f.Gateways},
		{"return", f.Returns}, {"address", f.Addresses}, {"direct", f.Direct},
		{"fail-closed", f.FailClosed}, config}
}

// Any reports whether a flag decides anything.
func (f Flags) Any() bool {
	return slices.ContainsFunc(f.List(), func(x Flag) bool { return len(x.Values) > 0 })
}

// Load reads the file and the flags.
func Load(f Flags) (Settings, error) {
	s, err := f.file()
	return f.over(s, err)
}

// Numbers reads the numbers of the file alone, for `clear`. Mistakes in a file
// that the user did not name must not keep lasthop's objects in the kernel,
// since removing the package removes the program, too. Then the numbers are
// those that the file has without a mistake, else the default ones, and
// mistakes reports this.
func (f Flags) Numbers() (n routing.Numbers, mistakes string, err error) {
	s, err := f.file()
	n = s.Policy.Numbers
	if err == nil || f.FileGiven {
		return n, "", err
	}
	return n, fmt.Sprintf("%v\nclear recognizes lasthop's rules and routes only by these "+
		"numbers: protocol %d, group %d, tables %d-%d, priority "+
		"%d", err, n.Protocol, n.Group,
		n.TableFirst, n.TableLast, n.Base), nil
}

// LoadCaptured reads the flags, and in place of this machine's file the
// settings of a captured host. path names the capture in errors.
func LoadCaptured(f Flags, path string, words map[string][]string,
	n routing.Numbers) (Settings, error) {
	if f.FileGiven {
		return Load(f)
	}
	captured := Flags{Gateways: words["gateway"], Returns: words["return"],
		Addresses: words["address"], Direct: words["direct"],
		FailClosed: words["fail-closed"]}
	s, err := captured.settings()
	if err != nil {
		err = fmt.Errorf("%s: settings: %w", path, err)
	}
	if n != (routing.Numbers{}) {
		s.Policy.Numbers = n
	}
	return f.over(s, err)
}

// over overrides s with the flags.
func (f Flags) over(s Settings, err error) (Settings, error) {
	own, flagErr := f.settings()
	if err := errors.Join(err, flagErr); err != nil {
		return Settings{}, err
	}
	if len(f.Confs) > 0 {
		s.Confs = f.Confs
	}
	if len(own.Listens) > 0 {
		s.Listens = own.Listens
	}
	p, q := &s.Policy, own.Policy
	p.Gateways = override(p.Gateways, q.Gateways,
		func(g routing.GatewayPin) string { return g.Link })
	p.Returns = override(p.Returns, q.Returns, routing.ReturnPin.Subject)
	p.Addresses = override(p.Addresses, q.Addresses,
		func(a routing.AddressPin) netip.Addr { return a.Addr })
	p.Direct = append(p.Direct, q.Direct...)
	p.FailClosed = append(p.FailClosed, q.FailClosed...)
	return s, nil
}

// override replaces the settings that the flags set, and keeps the other ones.
func override[T any, K comparable](file, flags []T, subject func(T) K) []T {
	named := map[K]bool{}
	for _, x := range flags {
		named[subject(x)] = true
	}
	spoken := func(x T) bool { return named[subject(x)] }
	return append(slices.DeleteFunc(file, spoken), flags...)
}

// file reads the file of --config, or the default one if it is there.
func (f Flags) file() (Settings, error) {
	none := Settings{Policy: routing.Policy{Numbers: routing.DefaultNumbers}}
	if f.File == "" {
		return none, nil
	}
	data, err := readFile(f.File, f.Once)
	if errors.Is(err, os.ErrNotExist) && f.File == DefaultFile && !f.FileGiven {
		return none, nil
	}
	if err != nil {
		return none, hint.New(fmt.Errorf("read settings: %w", err),
			"name another file with --config, or none: --config ''")
	}
	return Parse(f.File, data)
}

// Changed reports whether the file differs from what was read.
func (s Settings) Changed() bool {
	if s.File == "" {
		return false
	}
	data, err := readFile(s.File, false)
	return err == nil && string(data) != s.Text
}
