use super::*;

fn orders(topology: &Topology) -> Vec<Vec<u8>> {
    let orders = node_orders(topology);
    let known = orders.iter().map(|order| order.iter().flatten());
    known
        .map(|order| order.map(|node| node.0).collect())
        .collect()
}

#[test]
fn nearer_nodes_come_first() {
    let mut topology = Topology::flat(NodeMask(0b111));
    topology.distance[0][1] = 40;
    topology.distance[0][2] = 30;
    let orders = orders(&topology);
    assert_eq!(orders[0], [0, 2, 1]);
    assert!(orders[3].is_empty());
}

#[test]
fn equally_distant_nodes_rotate_among_the_lists() {
    let orders = orders(&Topology::flat(NodeMask(0b1111)));
    for (node, order) in orders.iter().take(4).enumerate() {
        assert_eq!(order.len(), 4);
        assert_eq!(usize::from(order[0]), node);
    }
    let mut second = orders
        .iter()
        .take(4)
        .map(|order| order[1])
        .collect::<Vec<_>>();
    second.sort_unstable();
    second.dedup();
    assert!(
        second.len() >= 3,
        "all overflow to the same node: {orders:?}"
    );
}

#[test]
fn a_node_without_cpus_is_preferred_among_equals() {
    let mut topology = Topology::flat(NodeMask(0b111));
    topology.with_cpus = NodeMask(0b011);
    assert_eq!(orders(&topology)[0], [0, 2, 1]);
}
