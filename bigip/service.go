package bigip

import (
	"slices"
	"strconv"
	"strings"
)

// services are the names that tmsh prints for ports: those that a server behind
// NGINX may have. Names that stand for several ports are left out.
var services = portsByName(`
ftp-data 20  ftp 21  ssh 22  telnet 23  smtp 25  time 37  tacacs 49  domain 53
bootps 67  bootpc 68  tftp 69  gopher 70  finger 79  http 80  kerberos 88  pop3 110
sunrpc 111  nntp 119  ntp 123  netbios-ns 137  netbios-dgm 138  netbios-ssn 139
imap 143  snmp 161  snmptrap 162  bgp 179  ldap 389  https 443  microsoft-ds 445
kpasswd 464  isakmp 500  syslog 514  rtsp 554  submission 587  ldaps 636  domain-s 853
ftps-data 989  ftps 990  telnets 992  imaps 993  pop3s 995  blackjack 1025  cap 1026
socks 1080  ms-sql-s 1433  ms-sql-m 1434  ncube-lm 1521  pptp 1723  radius 1812
radius-acct 1813  mqtt 1883  nfs 2049  ndl-aas 3128  iscsi-target 3260  msft-gc 3268
msft-gc-ssl 3269  mysql 3306  ms-wbt-server 3389  diameter 3868  f5-iquery 4353
commplex-main 5000  sip 5060  sips 5061  sip-tls 5061  xmpp-client 5222  postgresql 5432
amqps 5671  amqp 5672  wsman 5985  wsmans 5986  afs3-callback 7001  afs3-prserver 7002
irdmi 8000  vcom-tunnel 8001  webcache 8080  tproxy 8081  us-srv 8083  radan-http 8088
pcsync-https 8443  pcsync-http 8444  secure-mqtt 8883  ddi-tcp-1 8888  cslistener 9000
glrpc 9080  websm 9090  wap-wsp 9200  tungsten-https 9443  ndmp 10000
`)

// portsByName reads pairs of a name and its port.
func portsByName(table string) map[string]uint16 {
	ports := map[string]uint16{}
	for pair := range slices.Chunk(strings.Fields(table), 2) {
		port, _ := strconv.ParseUint(pair[1], 10, 16)
		ports[pair[0]] = uint16(port)
	}
	return ports
}
