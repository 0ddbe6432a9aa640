package doctor

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"lasthop/internal/procfs"
	"lasthop/routing"
)

// Programs that delete foreign objects, and the settings that make them stop.

// suspects are such programs, by the name of their process (cut to 15
// characters by the kernel).
var suspects = map[string]string{
	"systemd-network": "systemd-networkd", // unless ManageForeignRoutingPolicyRules=no
	"NetworkManager":  "NetworkManager",
	"mwan3rtmon":      "mwan3", // every rule from 1000 to 3999
	"netplan":         "netplan",
	"cloud-init":      "cloud-init",
	"wicked":          "wicked",
	"nm-cloud-setup":  "nm-cloud-setup",
}

// systemUsers are below this. Users above it may name their programs as they
// like.
const systemUsers = 1000

// Suspects names the programs that run in a network namespace and are known to
// delete foreign objects: "systemd-networkd?", or "" if none does. netns is the
// path of the namespace, "" for the process's own.
func Suspects(proc procfs.Dir, netns string) string {
	here, err := proc.NetNSAt(netns)
	if err != nil {
		return ""
	}
	pids, _ := proc.Processes()
	var found []string
	for _, pid := range pids {
		if owner, err := proc.Owner(pid); err != nil || owner >= systemUsers {
			continue
		}
		comm, err := proc.Comm(pid)
		s := suspects[comm]
		if err != nil || s == "" || slices.Contains(found, s+"?") {
			continue
		}
		ns, err := proc.NetNS(pid)
		shares := err == nil && ns == here
		if netns == "" && errors.Is(err, fs.ErrPermission) {
			shares, _ = proc.SharesNet(pid)
		}
		if shares {
			found = append(found, s+"?")
		}
	}
	slices.SortFunc(found, func(a, b string) int { return -cmp.Compare(a, b) })
	return strings.Join(found, " ")
}

// Networkd returns how to make systemd-networkd leave foreign objects alone, if
// it runs and is not configured so.
func Networkd(root, programs string) (routing.Finding, bool) {
	if !strings.Contains(programs, "systemd-networkd") || networkdSpares(root) {
		return routing.Finding{}, false
	}
	return routing.Warning.Finding("networkd-deletes-rules", "systemd-networkd",
		"systemd-networkd runs and may delete rules and routes of other programs when "+
			"it restarts or reconfigures a link; the daemon puts them back at once").
		Advise("set ManageForeignRoutingPolicyRules=no and ManageForeignRoutes=no in " +
			"/etc/systemd/networkd.conf.d/lasthop.conf"), true
}

// networkdSpares reports whether networkd is configured to leave foreign rules
// and routes alone. The last setting counts.
func networkdSpares(root string) bool {
	rules, routes := false, false
	for _, s := range settingsOf(root,
		[]string{"usr/lib/systemd", "run/systemd", "etc/systemd"}, "networkd.conf",
		"networkd.conf.d/*.conf") {
		no := slices.Contains([]string{"no", "false", "off", "0", "n", "f"},
			strings.ToLower(s.value))
		switch s.key {
		case "ManageForeignRoutingPolicyRules":
			rules = no
		case "ManageForeignRoutes":
			routes = no
		}
	}
	return rules && routes
}

// routeTables are the settings of a table of routes: in profiles, and the
// defaults for all.
var routeTables = []string{"ipv4 route-table", "ipv6 route-table",
	"connection ipv4.route-table", "connection ipv6.route-table"}

// networkManager are the settings of a profile, or the defaults for all, that
// give a connection a table of routes. With one of them NetworkManager deletes
// foreign routes from every table; without them it manages main alone.
func networkManager(root, programs string) (out []routing.Finding, unseen error) {
	if !strings.Contains(programs, "NetworkManager") {
		return nil, nil
	}
	dirs := []string{"usr/lib/NetworkManager", "run/NetworkManager", "etc/NetworkManager"}
	for _, s := range settingsOf(root, dirs, "NetworkManager.conf", "conf.d/*.conf",
		"system-connections/*") {
		if s.err != nil {
			unseen = s.err
		}
		section, _, _ := strings.Cut(s.section, "-")
		if n, err := strconv.ParseUint(s.value, 0, 32); err != nil || n == 0 ||
			!slices.Contains(routeTables, section+" "+s.key) {
			continue
		}
		out = append(out, routing.Warning.Finding("networkmanager-deletes-routes",
			"NetworkManager", "with %s=%s NetworkManager deletes routes of other "+
				"programs from every table when it activates the connection; "+
				"the daemon puts them back at once", s.key, s.value).
			Advise("remove the setting, or set it to 0: lasthop needs no table of "+
				"NetworkManager's").At(s.origin))
	}
	return out, unseen
}

// setting is one line of a file with sections, or a file that may not be read.
type setting struct {
	section, key, value, origin string
	err                         error
}

// settingsOf reads the files with the given names in each of the directories
// below root, in the order in which they count.
func settingsOf(root string, dirs []string, patterns ...string) []setting {
	var out []setting
	for _, dir := range dirs {
		for _, p := range patterns {
			path := filepath.Join(root, dir, p)
			if _, err := os.ReadDir(filepath.Dir(path)); errors.Is(err,
				fs.ErrPermission) {
				out = append(out, setting{err: err})
			}
			names, _ := filepath.Glob(path)
			for _, name := range names {
				out = append(out, settingsIn(root, name)...)
			}
		}
	}
	return out
}

func settingsIn(root, name string) []setting {
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrPermission) {
		return []setting{{err: err}}
	}
	var out []setting
	section, number := "", 0
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		number++
		if inner, ok := strings.CutPrefix(line, "["); ok {
			section = strings.TrimSuffix(inner, "]")
			continue
		}
		if key, value, ok := strings.Cut(line, "="); ok && line[0] != '#' &&
			line[0] != ';' {
			shown := filepath.Join("/", strings.TrimPrefix(name, filepath.Clean(root)))
			out = append(out, setting{section: section, key: strings.TrimSpace(key),
				value:  strings.TrimSpace(value),
				origin: fmt.Sprintf("%s:%d", shown, number)})
		}
	}
	return out
}
