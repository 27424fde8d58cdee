#!/bin/sh
# fetch-guests.sh FOLDER [NAME…]: puts guests from Debian's packages into FOLDER, under names that stay the same.
#
#   invaders.exec          grub-invaders, a multiboot game
#   memtest86+.bin         memtest86+, by the Linux boot protocol
#   grub-rescue-floppy.img grub-rescue-cdrom.iso
#   vmlinuz-686            Debian's kernel for 32-bit PCs
#   vmlinuz-686-pae        the same for processors with PAE
#   busybox-i386           a static busybox
#   initrd.gz              that busybox with tests/guests/init (needs cpio)
#   initrd-storage.gz      the same with vmlinuz-686's modules for IDE, CD, floppy and their file systems
#   ipxe.lkrn ipxe.iso     iPXE, by the Linux boot protocol and as a CD
#
# And only where they are named, for the long tests:
#   installer-linux        the kernel of Debian 12's installer
#   installer-text.gz      its initrd for text screens
#   installer-gtk.gz       and the one for graphics
#   debian-12.img          Debian on a disk, made by tests/guests/debian-disk.sh; root does that
#
# Packages are downloaded and unpacked, never installed; apt works on lists of its own in FOLDER, so
# that neither the host's packages nor its architectures change. What is there already is kept.
set -eu

[ $# -ge 1 ] || { sed -n '2,21s/^# \{0,1\}//p' "$0"; exit 2; }
mkdir -p "$1"
folder=$(cd "$1" && pwd)
shift
here=$(cd "$(dirname "$0")" && pwd)
[ $# -gt 0 ] || set -- invaders.exec memtest86+.bin grub-rescue-floppy.img grub-rescue-cdrom.iso vmlinuz-686 vmlinuz-686-pae busybox-i386 initrd.gz initrd-storage.gz \
    ipxe.lkrn ipxe.iso

# Tests of several processes may ask at once. The disk takes minutes, and who does not need it need not wait for it.
lock=.lock
[ "$*" != debian-12.img ] || lock=.lock-disk
exec 9>"$folder/$lock"
if command -v flock >/dev/null; then flock 9; fi

state=$folder/.apt
scratch=
trap '[ -z "$scratch" ] || rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

apt_options="-q -o Dir::State=$state/state -o Dir::State::status=$state/status -o Dir::Cache=$state/cache
    -o APT::Architectures=amd64,i386 -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=3"

# Brings the lists of packages up to date, once a run.
lists_ready=
update_lists() {
    [ -z "$lists_ready" ] || return 0
    mkdir -p "$state/state/lists/partial" "$state/cache/archives/partial"
    : >"$state/status"
    # A single list that cannot be had (a third party's, a mirror in the middle of an update) is no reason to stop.
    # shellcheck disable=SC2086 # a list of options
    apt-get $apt_options update >"$state/update.log" 2>&1 || true
    lists_ready=yes
}

# unpack PACKAGE: downloads a package and unpacks it into $scratch/root.
unpack() {
    for try in 1 2 3 4; do
        update_lists
        # shellcheck disable=SC2086
        if (cd "$scratch" && rm -f ./*.deb && apt-get $apt_options download "$1" >"$scratch/log" 2>&1); then
            mkdir -p "$scratch/root"
            for package in "$scratch"/*.deb; do dpkg-deb -x "$package" "$scratch/root"; done
            rm -f "$scratch"/*.deb
            return 0
        fi
        [ "$try" = 4 ] || sleep $((try * 5))
        lists_ready=
    done
    echo "fetch-guests: the package $1 could not be fetched:" >&2
    tail -n 5 "$state/update.log" "$scratch/log" >&2
    return 1
}

# keep SOURCE NAME: takes a file over, whole or not at all.
keep() {
    [ -s "$1" ] || { echo "fetch-guests: $2 is not in its package (looked for ${1#"$scratch/root"})" >&2; return 1; }
    cp "$1" "$folder/.$2.new"
    chmod 644 "$folder/.$2.new"
    mv "$folder/.$2.new" "$folder/$2"
}

# kernel_package FLAVOUR: the kernel package that the newest linux-image-FLAVOUR stands for.
kernel_package() {
    update_lists
    # shellcheck disable=SC2086
    apt-cache $apt_options depends "linux-image-$1:i386" 2>/dev/null | sed -n "s/^ *Depends: *\\(linux-image-[^ ]*-$1\\(:i386\\)\\{0,1\\}\\)\$/\\1/p" | head -n 1
}

# Modules of initrd-storage.gz, with those that they need.
modules="drivers/ata/libata drivers/ata/ata_piix drivers/scsi/scsi_common drivers/scsi/scsi_mod drivers/scsi/sd_mod
    drivers/scsi/sr_mod drivers/cdrom/cdrom drivers/block/floppy block/t10-pi lib/crc-t10dif lib/crc64 lib/crc64-rocksoft
    lib/crc16 crypto/crct10dif_common crypto/crct10dif_generic crypto/crc64_rocksoft_generic crypto/crc32c_generic
    fs/mbcache fs/jbd2/jbd2 fs/ext4/ext4 fs/isofs/isofs fs/fat/fat fs/fat/vfat fs/nls/nls_cp437 fs/nls/nls_ascii"

# build_initrd NAME: busybox, the init script, and what is in $scratch/tree already.
build_initrd() {
    command -v cpio >/dev/null || { echo "fetch-guests: $1 needs cpio" >&2; return 1; }
    [ -s "$folder/busybox-i386" ] || fetch busybox-i386
    tree=$scratch/tree
    mkdir -p "$tree/bin" "$tree/dev" "$tree/etc" "$tree/proc" "$tree/sys" "$tree/tmp" "$tree/mnt"
    cp "$folder/busybox-i386" "$tree/bin/busybox"
    cp "$here/../tests/guests/init" "$tree/init"
    chmod 755 "$tree/bin/busybox" "$tree/init"
    ln -s busybox "$tree/bin/sh"
    (cd "$tree" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet) | gzip -9n >"$scratch/$1"
    keep "$scratch/$1" "$1"
}

# Takes kernel and modules from one package: they have to be of the same version.
build_storage_initrd() {
    package=$(kernel_package 686)
    unpack "${package:-linux-image-686:i386}"
    keep "$(find "$scratch/root/boot" -name 'vmlinuz-*' | head -n 1)" vmlinuz-686
    from=$(find "$scratch/root/lib/modules" -mindepth 1 -maxdepth 1 | head -n 1)
    into=$scratch/tree/lib/modules/${from##*/}
    for module in $modules; do
        mkdir -p "$into/${module%/*}"
        cp "$from/kernel/$module.ko" "$into/$module.ko" || return 1
    done
    build_initrd "$1"
}

fetch() {
    case $1 in
    invaders.exec) unpack grub-invaders && keep "$scratch/root/boot/invaders.exec" "$1" ;;
    memtest86+.bin) unpack memtest86+ && keep "$(find "$scratch/root/boot" -name 'memtest86+*ia32.bin' | head -n 1)" "$1" ;;
    grub-rescue-floppy.img | grub-rescue-cdrom.iso)
        unpack grub-rescue-pc && keep "$scratch/root/usr/lib/grub-rescue/$1" "$1" ;;
    vmlinuz-686 | vmlinuz-686-pae)
        flavour=${1#vmlinuz-}
        package=$(kernel_package "$flavour")
        unpack "${package:-linux-image-$flavour:i386}" && keep "$(find "$scratch/root/boot" -name 'vmlinuz-*' | head -n 1)" "$1" ;;
    busybox-i386) unpack busybox-static:i386 && keep "$scratch/root/bin/busybox" "$1" ;;
    ipxe.lkrn | ipxe.iso) unpack ipxe && keep "$(find "$scratch/root" -name "$1" | head -n 1)" "$1" ;;
    installer-linux | installer-text.gz | installer-gtk.gz)
        # One package, and kernel and modules of one version: all three at once.
        images=$scratch/root/usr/lib/debian-installer/images/12/i386
        unpack debian-installer-12-netboot-i386 &&
            keep "$images/text/debian-installer/i386/linux" installer-linux &&
            keep "$images/text/debian-installer/i386/initrd.gz" installer-text.gz &&
            keep "$images/gtk/debian-installer/i386/initrd.gz" installer-gtk.gz ;;
    debian-12.img) "$here/../tests/guests/debian-disk.sh" "$folder" ;;
    initrd.gz) build_initrd "$1" ;;
    initrd-storage.gz) build_storage_initrd "$1" ;;
    *) echo "fetch-guests: $1: not known" >&2; return 1 ;;
    esac
}

result=0
for name in "$@"; do
    # An initrd and a disk are made anew when their script has changed, and so is the initrd with modules when the kernel is another.
    stale=
    case $name in
    initrd*.gz) [ "$here/../tests/guests/init" -nt "$folder/$name" ] && stale=yes ;;
    debian-12.img) [ "$here/../tests/guests/debian-disk.sh" -nt "$folder/$name" ] && stale=yes ;;
    esac
    [ "$name" = initrd-storage.gz ] && [ "$folder/vmlinuz-686" -nt "$folder/$name" ] && stale=yes
    [ -s "$folder/$name" ] && [ -z "$stale" ] && continue
    scratch=$(mktemp -d "$folder/.scratch-XXXXXX")
    fetch "$name" || result=1
    rm -rf "$scratch"
    scratch=
done
exit $result
