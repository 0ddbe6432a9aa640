package survey

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"lasthop/internal/hint"
	"lasthop/internal/procfs"
	"lasthop/internal/settings"
	"lasthop/nginxconf"
	"lasthop/routing"
	"lasthop/routing/host"
)

// DefaultConf is read where no NGINX runs and none is named.
const DefaultConf = "/etc/nginx/nginx.conf"

// Live is this machine, in the network namespace netns ("" for our own). warn
// is told of each NGINX that is left out or cannot be verified.
func Live(k *host.Kernel, netns string, warn func(message string)) Place {
	return Place{Machine: k, settings: settings.Load, taken: time.Now, inside: k.Inside,
		running: func(listens bool) (NGINX, error) { return running(netns, listens, warn) },
		beside:  func(in routing.Inputs) Beside { return besideOf(k, in) },
		halfOpen: func() []routing.HalfOpen {
			list, _ := k.HalfOpen()
			return list
		}}
}

func besideOf(k *host.Kernel, in routing.Inputs) (b Beside) {
	b.DNATs, _ = DNATs(k)
	if sessions, err := k.Sessions(); err == nil {
		b.Sessions = routing.GroupSessions(in.Host, in.Policy.Direct, sessions,
			ownSession())
	}
	if k.Own() {
		b.NetworkFiles = host.NetworkFiles("/", in.Host.Links)
	}
	return b
}

// Unseen is what may not be looked at, and why.
type Unseen struct {
	What string
	Err  error
}

// DNATs returns all destination translations that may be read.
func DNATs(k *host.Kernel) (dnats []routing.DNAT, unseen []Unseen) {
	for _, from := range []struct {
		what string
		read func() ([]routing.DNAT, error)
	}{{"nftables", k.DNATs}, {"iptables-legacy", k.LegacyDNATs}} {
		list, err := from.read()
		dnats = append(dnats, list...)
		if err != nil {
			unseen = append(unseen, Unseen{from.what, err})
		}
	}
	return dnats, unseen
}

// running loads the configurations of the NGINX that run in a network
// namespace, else what is on disk. With other listeners it may be missing.
func running(netns string, listens bool, warn func(string)) (NGINX, error) {
	masters, strangers, err := Masters(netns, nil, nil)
	if err != nil {
		return NGINX{}, err
	}
	for _, s := range strangers {
		warn(Stranger(s))
	}
	var sources []Source
	for _, m := range masters {
		if m.Unverified != nil {
			warn(fmt.Sprintf("%v: lasthop uses its command line instead; "+
				"%s", m.Unverified,
				hint.Of(m.Unverified)))
		}
		if s := SourceOf(m); !slices.Contains(sources, s) {
			sources = append(sources, s)
		}
	}
	if len(sources) > 0 {
		return load(sources)
	}
	source, whose, there := OnDisk(netns, listens)
	if !there {
		if listens {
			return NGINX{}, nil
		}
		return NGINX{}, hint.New(fmt.Errorf("no NGINX runs in this network namespace, and "+
			"%s", whose), cmp.Or(elsewhere(netns), nameIt))
	}
	n, err := load([]Source{source})
	n.Warnings = append(n.Warnings, routing.Warning.Finding("no-nginx", source.Root+source.Conf,
		"no NGINX runs in this network namespace: lasthop reads the listeners from "+
			"%s", whose).
		Advise("%s", cmp.Or(elsewhere(netns), nameIt)))
	return n, err
}

// nameIt is what to do where no NGINX runs.
const nameIt = "start NGINX, or name its configuration with --nginx-conf or its listeners with " +
	"--listen"

// OnDisk is the configuration that NGINX would load if it were started in a
// network namespace, and whose file that is, or why there is none. A process
// that names the namespace shows the files of its mount namespace: those of its
// container. In another namespace that is named otherwise, this machine's file
// counts only if nobody says with --listen what is listened on, and if `ip
// netns exec` would not put another in its place (ip-netns(8)).
func OnDisk(netns string, listens bool) (source Source, whose string, there bool) {
	source, whose = Source{Conf: DefaultConf}, DefaultConf+" on disk"
	var proc procfs.Dir
	own, err1 := proc.NetNSAt("")
	other, err2 := proc.NetNSAt(host.NamespacePath(netns))
	if err1 != nil || err2 != nil || own != other {
		instead := "/etc/netns/" + netns + "/nginx"
		_, err := os.Stat(instead)
		switch pid, notPID := strconv.Atoi(netns); {
		case listens:
			return source, "lasthop does not know its files", false
		case notPID == nil:
			source.Root, source.UID = nginxconf.SeenBy(pid, DefaultConf)
			whose = fmt.Sprintf("%s as process %d sees it", DefaultConf, pid)
		case err == nil:
			return source, instead + " is there in the place of /etc/nginx", false
		default:
			whose = "this machine's " + DefaultConf
		}
	}
	if _, err := os.Stat(source.Root + source.Conf); errors.Is(err, fs.ErrNotExist) {
		return source, "there is no " + whose, false
	}
	return source, whose, true
}

// elsewhere says how to reach the NGINX in other network namespaces; "" if
// there is none.
func elsewhere(netns string) string {
	pids := nginxconf.Elsewhere(nginxconf.MastersOptions{NetNS: host.NamespacePath(netns)})
	var list []string
	for _, pid := range pids {
		list = append(list, fmt.Sprintf("--netns %d", pid))
	}
	if len(list) == 0 {
		return ""
	}
	return "NGINX runs in another network namespace: " + routing.Some(list, 3)
}

// Masters returns the NGINX masters that count in a network namespace, and the
// strangers, which do not. Any user can give a process the title of a master
// and a configuration of his own, which must not decide how this host routes:
// only root's and our own count. In a namespace that was named, other than this
// host's, all count, since it may be a rootless container's and only its owner
// gets in. A configuration that was named counts, whoever runs it; where root
// does, nobody else. known may be nil.
func Masters(netns string, confs []string, known *nginxconf.Programs) ([]nginxconf.Master,
	[]nginxconf.Stranger, error) {
	path := host.NamespacePath(netns)
	foreign := netns != "" && !hosts(path)
	masters, strangers, err := nginxconf.Masters(nginxconf.MastersOptions{NetNS: path,
		Everyone: foreign || len(confs) > 0, Programs: known})
	if foreign {
		return masters, strangers, err
	}
	all := slices.Clone(masters)
	return slices.DeleteFunc(masters, func(m nginxconf.Master) bool {
		return !m.Trusted() && slices.ContainsFunc(all, func(o nginxconf.Master) bool {
			return o.Trusted() && SourceOf(o).Runs(m)
		})
	}), strangers, err
}

// hosts reports whether a network namespace is ours, or that of process 1:
// every user of the host is in it.
func hosts(path string) bool {
	var proc procfs.Dir
	ns, err := proc.NetNSAt(path)
	ours, err1 := proc.NetNSAt("")
	first, err2 := proc.NetNS(1)
	return err == nil && (err1 == nil && ns == ours || err2 == nil && ns == first)
}

// Stranger says why an NGINX does not count.
func Stranger(s nginxconf.Stranger) string {
	return fmt.Sprintf("lasthop ignores NGINX %d: it runs as user %d, not as root; to "+
		"include it, name its main file with --nginx-conf", s.PID, s.Owner)
}

// ownSession is the user's SSH session, from $SSH_CONNECTION: client address
// and port, server address and port. It is zero where there is none.
func ownSession() routing.Session {
	w := strings.Fields(os.Getenv("SSH_CONNECTION"))
	if len(w) != 4 {
		return routing.Session{}
	}
	remote, err1 := parseAddrPort(w[0], w[1])
	local, err2 := parseAddrPort(w[2], w[3])
	if err1 != nil || err2 != nil {
		return routing.Session{}
	}
	return routing.Session{Local: local, Remote: remote}
}

func parseAddrPort(addr, port string) (netip.AddrPort, error) {
	return netip.ParseAddrPort(net.JoinHostPort(addr, port))
}
