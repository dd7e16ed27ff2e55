//! Tests of the choice of packages, on what apt wrote.

use super::*;

const MADISON: &str = "\
linux-image-6.1.0-47-amd64 | 6.1.170-1 | http://a.invalid/debian bookworm/main amd64 Packages
linux-image-6.1.0-47-cloud-amd64 | 6.1.170-1 | http://a.invalid/debian bookworm/main amd64 Packages
linux-image-6.1.0-47-amd64-unsigned | 6.1.170-1 | http://a.invalid/debian bookworm/main amd64 Packages
linux-image-6.1.0-50-amd64 | 6.1.176-1 | http://a.invalid/debian bookworm/main amd64 Packages
linux-image-6.1.0-50-amd64 | 6.1.176-1 | http://a.invalid/security bookworm-security/main amd64 Packages
linux-image-6.1.0-56-amd64 | 6.1.192-2 | http://a.invalid/security bookworm-security/main amd64 Packages
linux-image-6.12.117+deb12-amd64 | 6.12.117-1~deb12u1 | http://a.invalid/security bookworm-security/main amd64 Packages
linux-image-6.1-amd64 | 6.1.192-2 | http://a.invalid/security bookworm-security/main amd64 Packages
linux-signed-amd64 | 6.1.192+2 | http://a.invalid/security bookworm-security/main Sources
";

#[test]
fn kernels_are_the_ordinary_ones_by_age() {
    let kernels = parse_madison(MADISON);
    let releases: Vec<&str> = kernels
        .iter()
        .map(|kernel| kernel.release.as_str())
        .collect();
    assert_eq!(
        releases,
        [
            "6.1.0-47-amd64",
            "6.1.0-50-amd64",
            "6.1.0-56-amd64",
            "6.12.117+deb12-amd64"
        ]
    );
    assert_eq!(kernels[1].suites, ["bookworm", "bookworm-security"]);
    assert_eq!(upstream(&kernels[2].version), "6.1.192");
}

#[test]
fn the_newest_kernel_of_each_series_is_taken() {
    let newest = newest_of_each_series(&parse_madison(MADISON));
    let releases: Vec<&str> = newest
        .iter()
        .map(|kernel| kernel.release.as_str())
        .collect();
    assert_eq!(releases, ["6.1.0-56-amd64", "6.12.117+deb12-amd64"]);
    assert!(newest_of_each_series(&[]).is_empty());
}

#[test]
fn versions_compare_by_their_numbers() {
    for (older, newer) in [
        ("6.1.99-1", "6.1.192-2"),
        ("5.10.262-1", "6.1.1-1"),
        ("6.12.90+deb13", "6.12.118+deb13"),
        ("6.12.90+deb13", "6.12.90+deb13.1"),
    ] {
        assert_eq!(compare(older, newer), Ordering::Less, "{older} {newer}");
    }
    assert_eq!(upstream("6.12.118+deb13-1"), "6.12.118");
    assert_eq!(upstream("7.2.13"), "7.2.13");
}

#[test]
fn the_stanzas_of_packages_are_read() {
    let packages = parse_show(
        "Package: linux-headers-7.2.13+deb14-amd64\nVersion: 7.2.13-1\n\
         Depends: gcc-16-for-host, linux-base (>= 4.12~), linux-kbuild-7.2.13+deb14 | x, \
         linux-headers-7.2.13+deb14-common (= 7.2.13-1)\nSize: 1754172\n\n\
         Package: linux-headers-7.2.13+deb14-amd64\nVersion: 7.2.12-1\nSize: 1\n\n\
         Description: nothing\n",
    );
    assert_eq!(packages.len(), 1);
    assert_eq!(
        (packages[0].version.as_str(), packages[0].size),
        ("7.2.13-1", 1_754_172)
    );
    let needed: Vec<&String> = packages[0]
        .depends
        .iter()
        .filter(|name| is_part(name, "7.2.13+deb14-amd64"))
        .collect();
    assert_eq!(
        needed,
        [
            "linux-kbuild-7.2.13+deb14",
            "linux-headers-7.2.13+deb14-common"
        ]
    );
    assert!(is_part(
        "linux-binary-7.2.13+deb14-amd64",
        "7.2.13+deb14-amd64"
    ));
    assert!(!is_part("linux-base", "7.2.13+deb14-amd64"));
}
