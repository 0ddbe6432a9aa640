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

// DefaultConf is read if no NGINX runs and the user names no file.
const DefaultConf = "/etc/nginx/nginx.conf"

// Live is this machine, in the network namespace netns ("" for the process's
// own). It calls warn for each NGINX that it leaves out or cannot verify.
func Live(k *host.Kernel, netns string, warn func(message string)) Place {
	return Place{Machine: k, settings: settings.Load, taken: time.Now, inside: k.Inside,
		running: func(listens bool) (NGINX, error) {
			return running(netns, listens, warn)
		},
		background: func(in routing.Inputs) Background { return backgroundOf(k, in) },
		halfOpen: func() []routing.HalfOpen {
			list, _ := k.HalfOpen()
			return list
		}}
}

func backgroundOf(k *host.Kernel, in routing.Inputs) (b Background) {
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

// Unseen names what this user may not read, and why.
type Unseen struct {
	What string
	Err  error
}

// DNATs returns all destination translations that this user may read.
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
// namespace, else what is on disk. If the user names listeners, the file on
// disk may be missing.
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
			warn(unverified(m, os.Geteuid()))
		}
		if s := SourceOf(m); !slices.Contains(sources, s) {
			sources = append(sources, s)
		}
	}
	if len(sources) > 0 {
		n, err := load(sources)
		return n, withSudo(Hidden(err, masters), os.Geteuid())
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

// unverified tells a user that lasthop may not look at a master.
func unverified(m nginxconf.Master, uid int) string {
	if uid != 0 {
		return fmt.Sprintf("lasthop sees only the command line of NGINX %d: with sudo it "+
			"sees more", m.PID)
	}
	return fmt.Sprintf("%v: lasthop uses its command line instead; %s", m.Unverified,
		hint.Of(m.Unverified))
}

// withSudo adds sudo to the remedies of an ErrHidden, unless root has it.
func withSudo(err error, uid int) error {
	if uid == 0 || !errors.Is(err, ErrHidden) {
		return err
	}
	return hint.New(err, "run it with sudo, or "+hint.Of(err))
}

// nameIt is the remedy if no NGINX runs.
const nameIt = "start NGINX, or name its configuration with --nginx-conf or its listeners with " +
	"--listen"

// OnDisk returns the configuration that NGINX would load if it were started in
// a network namespace, and what that file is in words, or why there is none. A
// process that names the namespace shows the files of its mount namespace:
// those of its container. If another namespace is named otherwise, this
// machine's file counts only if the user names no listeners with --listen, and
// if `ip netns exec` would not put another file in its place (ip-netns(8)).
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

// elsewhere returns how to reach the NGINX in other network namespaces; "" if
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
// strangers, which do not count. Any user can give a process the title of a
// master and a configuration of his own, which must not decide how this host
// routes: so only masters of root and of lasthop's own user count. In a
// namespace that the user named, other than this host's, all count: it may be a
// rootless container's, and only its owner can enter it. If the user named a
// configuration, its masters count for any user; if root runs it, only root's
// count. known may be nil.
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

// ErrHidden means that lasthop may not see the files of an NGINX.
var ErrHidden = errors.New("this needs the capability SYS_PTRACE")

// Hidden returns err, the reason why a configuration cannot be read. But if a
// master's main file is missing because lasthop may not see the master's root,
// it returns an ErrHidden with a hint: no user has configured the path that is
// missing here.
func Hidden(err error, masters []nginxconf.Master) error {
	e, ok := errors.AsType[*nginxconf.Error](err)
	if !ok || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	i := slices.IndexFunc(masters, func(m nginxconf.Master) bool {
		return m.Unverified != nil && m.Conf == e.File
	})
	if i < 0 {
		return err
	}
	return hint.New(fmt.Errorf("lasthop may not see the files of NGINX %d: %w", masters[i].PID,
		ErrHidden), "give lasthop SYS_PTRACE (Docker, podman: --cap-add; Kubernetes: "+
		"securityContext.capabilities), or name NGINX's main file with --nginx-conf")
}

// hosts reports whether a network namespace is lasthop's or that of process 1:
// all users of the host are in it.
func hosts(path string) bool {
	var proc procfs.Dir
	ns, err := proc.NetNSAt(path)
	own, err1 := proc.NetNSAt("")
	first, err2 := proc.NetNS(1)
	return err == nil && (err1 == nil && ns == own || err2 == nil && ns == first)
}

// Stranger returns the reason why an NGINX does not count.
func Stranger(s nginxconf.Stranger) string {
	return fmt.Sprintf("lasthop ignores NGINX %d: it runs as user %d, not as root; to "+
		"include it, name its main file with --nginx-conf", s.PID, s.Owner)
}

// ownSession returns the user's SSH session, from $SSH_CONNECTION: client
// address and port, server address and port. It is zero if there is none.
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
