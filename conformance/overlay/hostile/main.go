// An overlay's installer that does what no installer should, as its option `do` says; with the option `step` only in
// that step. Everything that it is refused is in order: it says so, and ends as if it had done nothing.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// temporary opens a file without a name.
const temporary = 0o20200000

// setSignal (F_SETSIG) chooses the signal that says that a file is ready.
const setSignal = 10

func main() {
	input, _ := io.ReadAll(os.Stdin)
	step := os.Args[1]
	if wanted := option(input, "step"); wanted == "" || wanted == step {
		act(option(input, "do"), input)
	}
	if step == "get-options" {
		fmt.Println("name: hostile\nkernelArgs: []")
	}
}

// option finds a scalar by its name, wherever it stands.
func option(input []byte, name string) string {
	for _, line := range bytes.Split(input, []byte("\n")) {
		if key, value, ok := strings.Cut(strings.TrimSpace(string(line)), ":"); ok && key == name {
			return strings.Trim(strings.TrimSpace(value), `"'`)
		}
	}
	return ""
}

func act(what string, input []byte) {
	switch what {
	case "fail":
		fmt.Fprintln(os.Stderr, "first line\nno such console: ttyX")
		os.Exit(3)
	case "crash":
		syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
		*(*int)(nil) = 1
	case "hang":
		time.Sleep(time.Hour)
	case "spin":
		for {
		}
	case "fork":
		for n := 0; n < 1000; n++ {
			if pid, err := syscall.ForkExec("./program", os.Args, nil); err == nil {
				escaped(fmt.Sprint("process ", pid))
			}
		}
		fmt.Fprintln(os.Stderr, "cannot fork")
		os.Exit(1)
	case "threads":
		for {
			go func() {
				runtime.LockOSThread()
				syscall.Nanosleep(&syscall.Timespec{Sec: 3600}, nil)
			}()
		}
	case "memory":
		var all [][]byte
		for {
			block := make([]byte, 1<<20)
			for n := range block {
				block[n] = 1
			}
			all = append(all, block)
		}
	case "shared-memory":
		for n := 0; ; n++ {
			block, err := syscall.Mmap(-1, 0, 1<<24, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED|syscall.MAP_ANON)
			check(err)
			for at := 0; at < len(block); at += 4096 {
				block[at] = 1
			}
		}
	case "disk":
		block := bytes.Repeat([]byte{1}, 1<<20)
		for n := 0; ; n++ {
			file, err := os.Create(fmt.Sprintf("work/%d", n))
			check(err)
			for m := 0; m < 64; m++ {
				_, err := file.Write(block)
				check(err)
			}
			// Hidden, but still there.
			os.Remove(file.Name())
		}
	case "big-file":
		file, err := os.Create("work/big")
		check(err)
		_, err = file.WriteAt([]byte{1}, 1<<40)
		check(err)
	case "files":
		for n := 0; ; n++ {
			check(os.WriteFile(fmt.Sprintf("work/%d", n), nil, 0o600))
		}
	case "deep":
		path := "work"
		for {
			path += "/deeper"
			if err := os.Mkdir(path, 0o700); err != nil {
				time.Sleep(time.Hour)
			}
		}
	case "print":
		for {
			fmt.Println(strings.Repeat("x", 1000))
		}
	case "complain":
		for {
			fmt.Fprintln(os.Stderr, strings.Repeat("y", 1000))
		}
	case "garbage":
		os.Stdout.Write([]byte("{{{\x00\xff"))
		os.Exit(0)
	case "argument":
		fmt.Println("name: x\nkernelArgs: [\"a\\nb=c\"]")
		os.Exit(0)
	case "elsewhere":
		check(os.WriteFile("work/mnt/boot/vmlinuz", []byte("mine"), 0o600))
	case "no-disk":
		check(os.Remove("work/disk.raw"))
		check(os.Mkdir("work/disk.raw", 0o700))
	case "link":
		check(os.Symlink("/etc/passwd", "work/mnt/boot/EFI/passwd"))
	case "closed":
		// As root writes it: with a mode that lets nobody else in.
		check(os.MkdirAll("work/mnt/boot/EFI/closed/inner", 0o600))
		check(os.WriteFile("work/mnt/boot/EFI/closed/inner/file", []byte("text"), 0o000))
		check(os.Chmod("work/mnt/boot/EFI/closed", 0o000))
		check(os.Chtimes("work/mnt/boot/EFI/closed", time.Now(), time.Now()))
	case "escape":
		escape(option(input, "address"), option(input, "secret"))
	}
}

// escape tries every way out that comes to mind.
func escape(address, secret string) {
	for _, network := range []string{"tcp", "udp"} {
		if connection, err := net.Dial(network, address); err == nil {
			escaped(network + " " + connection.RemoteAddr().String())
		}
	}
	for _, family := range []int{syscall.AF_UNIX, syscall.AF_INET, syscall.AF_INET6, syscall.AF_NETLINK, syscall.AF_PACKET, 38} {
		for _, kind := range []int{syscall.SOCK_STREAM, syscall.SOCK_DGRAM, syscall.SOCK_RAW, syscall.SOCK_SEQPACKET} {
			if _, err := syscall.Socket(family, kind, 0); err == nil {
				escaped(fmt.Sprint("socket ", family, kind))
			}
		}
	}
	folder, _ := os.Getwd()
	above := filepath.Dir(folder)
	for _, path := range []string{
		above + "/escaped", "../escaped", "escaped", "program", "input", "ready", "files/escaped", "/escaped", "/tmp/escaped",
		"/dev/shm/escaped", "/dev/null", "/proc/self/oom_score_adj", "/proc/self/root/escaped", "/proc/self/cwd/escaped",
		"work/../escaped", "work/mnt/../../../escaped", secret,
	} {
		for _, flags := range []int{os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_CREATE, os.O_RDONLY | os.O_TRUNC, os.O_RDWR | temporary} {
			if _, err := os.OpenFile(path, flags, 0o666); err == nil {
				escaped(fmt.Sprint("open ", path, flags))
			}
		}
		if os.Truncate(path, 0) == nil {
			escaped("truncate " + path)
		}
		if os.Remove(path) == nil {
			escaped("remove " + path)
		}
	}
	for _, path := range []string{"/", "/etc/passwd", "/proc/self/environ", "/proc/self/mem", above, secret, "/dev/zero", "/proc/1/status"} {
		if _, err := os.ReadFile(path); err == nil {
			escaped("read " + path)
		}
		if _, err := os.ReadDir(path); err == nil {
			escaped("list " + path)
		}
	}
	check(os.WriteFile("work/mine", []byte("x"), 0o644))
	refused("rename", os.Rename("work/mine", above+"/escaped"))
	refused("rename out of files", os.Rename("files", "work/files"))
	refused("link", os.Link("work/mine", above+"/escaped"))
	refused("link in", os.Link(secret, "work/secret"))
	refused("symlink", os.Symlink("/", "work/root"))
	refused("mkdir", os.Mkdir(above+"/escaped", 0o777))
	refused("chdir", os.Chdir("/"))
	refused("mknod", syscall.Mknod("work/disk", syscall.S_IFBLK|0o666, 8<<8))
	refused("fifo", syscall.Mkfifo("work/fifo", 0o666))
	refused("setxattr", syscall.Setxattr("program", "user.x", []byte("x"), 0))
	refused("kill", syscall.Kill(os.Getppid(), 0))
	refused("kill all", syscall.Kill(-1, syscall.SIGTERM))
	refused("kill by a pipe", killByPipe(os.Getppid()))
	refused("ptrace", syscall.PtraceAttach(os.Getppid()))
	refused("mount", syscall.Mount("none", "work", "tmpfs", 0, ""))
	refused("unshare", syscall.Unshare(syscall.CLONE_NEWUSER))
	refused("chroot", syscall.Chroot("work"))
	refused("setuid", syscall.Setuid(65534))
	refused("reboot", syscall.Reboot(syscall.LINUX_REBOOT_CMD_CAD_OFF))
	for name, number := range map[string]uintptr{
		"bpf": 321, "io_uring_setup": 425, "memfd_create": 319, "userfaultfd": 323, "keyctl": 250, "perf_event_open": 298,
		"setsid": 112, "process_vm_readv": 310, "pidfd_open": 434, "open_by_handle_at": 304, "quotactl": 179,
	} {
		if runtime.GOARCH == "amd64" {
			_, _, errno := syscall.RawSyscall6(number, 1, 0, 0, 0, 0, 0)
			if errno != syscall.EPERM {
				escaped(fmt.Sprint(name, " ", errno))
			}
			// The same call by the numbers of x32.
			if _, _, errno := syscall.RawSyscall6(number|0x40000000, 1, 0, 0, 0, 0, 0); errno == 0 {
				escaped("x32 " + name)
			}
		}
	}
	// Lets the factory's files and processes be as they were: it says that it did, and did not.
	syscall.Chmod(secret, 0o777)
	syscall.Chown(secret, 1, 1)
	data, _ := os.ReadFile("program")
	os.WriteFile("work/copy", data, 0o755)
	for _, program := range []string{"/bin/true", "/bin/sh", "work/copy", "files/copy"} {
		refused("execute "+program, syscall.Exec(program, []string{program, "escaped"}, nil))
	}
	fmt.Println("name: hostile\nkernelArgs: [escaped=nothing]")
	os.Exit(0)
}

// killByPipe has the kernel send a signal to a process when there is something to read.
func killByPipe(pid int) error {
	var pipe [2]int
	if err := syscall.Pipe2(pipe[:], 0); err != nil {
		return err
	}
	for _, command := range [][2]int{
		{syscall.F_SETOWN, pid}, {setSignal, int(syscall.SIGKILL)}, {syscall.F_SETFL, syscall.O_ASYNC},
	} {
		if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(pipe[0]), uintptr(command[0]), uintptr(command[1])); errno != 0 {
			return errno
		}
	}
	_, err := syscall.Write(pipe[1], []byte("x"))
	return err
}

func refused(what string, err error) {
	if err == nil {
		escaped(what)
	}
}

func escaped(how string) {
	fmt.Fprintln(os.Stderr, "escaped: "+how)
	os.Exit(9)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
