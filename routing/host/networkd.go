package host

import (
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"lasthop/routing"
)

// NetworkFiles returns, by link, the .network file that systemd-networkd
// applies. networkd records it below /run; root is "/", or another directory in
// tests. A link that networkd does not manage has none.
func NetworkFiles(root string, links []routing.Link) map[string]string {
	files := map[string]string{}
	for _, l := range links {
		eachFile(root, "run/systemd/netif/links/"+strconv.Itoa(l.Index),
			func(_ string, data []byte, _ time.Time) {
				for line := range strings.Lines(string(data)) {
					file, ok := strings.CutPrefix(strings.TrimSpace(line),
						"NETWORK_FILE=")
					if ok && filepath.IsAbs(file) {
						files[l.Name] = file
					}
				}
			})
	}
	return files
}
