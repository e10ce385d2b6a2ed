// The installer of the miniature release's overlay. Called as a Talos overlay installer is:
// `get-options` reads the schematic's options (YAML) and prints what the overlay wants;
// `install` reads where to install (YAML) and does it. Both read standard input.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

const (
	// Where the boot loader goes on the disk, in bytes.
	loaderOffset = 32 * 1024
	// Sectors kept free before the partition table's entries.
	partitionOffset = 20480
)

func main() {
	if len(os.Args) != 2 {
		fail("usage: installer get-options|install")
	}
	input, err := fields(os.Stdin)
	check(err)
	switch os.Args[1] {
	case "get-options":
		getOptions(input)
	case "install":
		check(install(input))
	default:
		fail("unknown command " + os.Args[1])
	}
}

// fields reads the scalars of a YAML map, nested ones by their last name: enough for what is asked here.
func fields(input io.Reader) (map[string]string, error) {
	found := map[string]string{}
	lines := bufio.NewScanner(input)
	for lines.Scan() {
		name, value, ok := strings.Cut(strings.TrimSpace(lines.Text()), ":")
		if value = strings.Trim(strings.TrimSpace(value), `"'`); ok && value != "" {
			found[name] = value
		}
	}
	return found, lines.Err()
}

func getOptions(options map[string]string) {
	console := options["console"]
	if console == "" {
		console = "ttyAMA0"
	}
	fmt.Printf("name: sbc-mini\nkernelArgs:\n  - console=tty0\n  - console=%s\n", console)
	fmt.Printf("  - sysctl.kernel.kexec_load_disabled=1\npartitionOptions:\n  offset: %d\n", partitionOffset)
}

func install(options map[string]string) error {
	loader, err := os.ReadFile(filepath.Join(options["artifactsPath"], "u-boot.bin"))
	if err != nil {
		return err
	}
	disk, err := os.OpenFile(options["installDisk"], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer disk.Close()
	if _, err := disk.WriteAt(loader, loaderOffset); err != nil {
		return err
	}
	firmware := filepath.Join(options["artifactsPath"], "firmware")
	target := filepath.Join(options["mountPrefix"], "boot", "EFI")
	return filepath.Walk(firmware, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(firmware, path)
		if err != nil {
			return err
		}
		if info.IsDir() {
			return os.MkdirAll(filepath.Join(target, relative), 0o755)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(target, relative), data, info.Mode().Perm())
	})
}

func check(err error) {
	if err != nil {
		fail(err.Error())
	}
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, message)
	os.Exit(1)
}
