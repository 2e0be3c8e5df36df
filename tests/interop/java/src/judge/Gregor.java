package judge;

import com.taobao.gecko.service.Connection;
import com.taobao.gecko.service.RequestProcessor;
import com.taobao.metamorphosis.network.BooleanCommand;
import com.taobao.metamorphosis.network.SyncCommand;
import com.taobao.metamorphosis.server.assembly.MetaMorphosisBroker;
import com.taobao.metamorphosis.server.store.AppendCallback;
import com.taobao.metamorphosis.server.store.Location;
import com.taobao.metamorphosis.server.utils.MetaConfig;
import java.util.concurrent.ThreadPoolExecutor;

/**
 * --ini FILE: the broker of 1.4.6.2 as the slave of a synchronous pair. The plug-in that makes it one is on no registry,
 * so this stands in for it: `sync` is decoded by the original's code, appended to its store under the master's id, and
 * answered as replication.md 3.3 says.
 */
public class Gregor {
    public static void main(String[] a) {
        try {
            MetaConfig config = new MetaConfig();
            config.loadFromFile(new J(a).s("ini", null));
            config.getZkConfig().zkEnable = false;
            final MetaMorphosisBroker broker = new MetaMorphosisBroker(config);
            broker.getRemotingServer().registerProcessor(SyncCommand.class, new RequestProcessor<SyncCommand>() {
                public ThreadPoolExecutor getExecutor() { return null; }
                public void handleRequest(SyncCommand command, Connection master) { store(broker, command, master); }
            });
            broker.start();
            J.out("event", "serving");
        } catch (Throwable t) { J.fail(t); }
    }

    private static void store(MetaMorphosisBroker broker, final SyncCommand command, final Connection master) {
        try {
            broker.getStoreManager().getOrCreateMessageStore(command.getTopic(), command.getPartition())
                .append(command.getMsgId(), command, new AppendCallback() {
                    public void appendComplete(Location place) {
                        String text = command.getMsgId() + " " + command.getPartition() + " " + place.getOffset();
                        answer(master, new BooleanCommand(place.isValid() ? 200 : 500, text, command.getOpaque()));
                    }
                });
        } catch (Throwable t) {
            answer(master, new BooleanCommand(500, String.valueOf(t.getMessage()), command.getOpaque()));
        }
    }

    private static void answer(Connection master, BooleanCommand reply) {
        try { master.response(reply); } catch (Throwable t) { t.printStackTrace(); }
    }
}
