package judge;

import javax.management.MBeanServerConnection;
import javax.management.ObjectName;
import javax.management.remote.JMXConnector;
import javax.management.remote.JMXConnectorFactory;
import javax.management.remote.JMXServiceURL;

/** --jmx port: what `metaServer.sh reload` of 1.4.6.2 does, operation reload of the broker's MetaConfig; says how many there were. */
public class Reload {
    public static void main(String[] a) {
        try {
            final J j = new J(a);
            JMXConnector c = JMXConnectorFactory.connect(new JMXServiceURL("service:jmx:rmi:///jndi/rmi://127.0.0.1:" + j.i("jmx", 9123) + "/jmxrmi"));
            MBeanServerConnection server = c.getMBeanServerConnection();
            int found = 0;
            for (ObjectName name : server.queryNames(new ObjectName("com.taobao.metamorphosis.server.utils:type=MetaConfig,*"), null)) {
                server.invoke(name, "reload", new Object[0], new String[0]);
                found++;
            }
            J.out("event", "done", "found", found);
            c.close(); System.exit(found == 1 ? 0 : 2);
        } catch (Throwable t) { J.fail(t); }
    }
}
